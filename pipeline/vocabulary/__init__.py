"""Visual words by approximate k-means over float16 descriptors, bitwise equal however work is cut.

Read in this order. The training sample: `sample`, `projection`. How a row finds its word: `compare`
(float32 proposes, float64 decides), `assign` (all words), `ivf_kernels`, `ivf` (some words),
`on_gpu`, `choose`, `round_assigner`. A round: `batches`, `sums`, `partial`, `empty_clusters`,
`update`. All of it in memory: `seeding`, `train`. Over files and workers: `checkpoint`, `rounds`,
`projected`, `finish`, `plan`, `stage`. Words from elsewhere: `exchange`, `import_words`.
"""
