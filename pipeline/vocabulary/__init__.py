"""Visual words by approximate k-means over float16 descriptors, the same bits everywhere.

To be read in this order. What is trained on: `sample`, `projection`. How a row finds its word:
`compare` (float32 proposes, float64 decides), `assign` (all words), `lists`, `cells` (some words),
`on_gpu`, `words`. A round: `batches`, `sums`, `partial`, `refill`, `update`. All of it in memory:
`seeding`, `train`. Over files and workers: `checkpoint`, `rounds`, `projected`, `finish`, `plan`,
`stage`. Words from elsewhere: `exchange`, `imported`. A person's look at them: `health`, `inspect`,
`patches`, `health_page`, `others`, `drift`.
"""
