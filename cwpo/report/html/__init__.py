"""report.html: claims, tables, figures and samples of one scale in one file that needs nothing else."""
