"""Tasks of preparing, forecasting and scoring, on threads or a cluster of ``dask.distributed``."""
