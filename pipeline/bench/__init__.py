"""Stop-watches: what extraction and search do on this machine, and where their time goes."""
