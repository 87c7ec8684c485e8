"""A store that is ready to be used: MLflow takes seconds to make its tables."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        return (Path(folder) / "mlflow.db").read_bytes()


def new_database(folder: Path) -> Path:
    """`mlflow.db` in `folder`, with MLflow's tables and nothing else."""
    file = folder / "mlflow.db"
    file.write_bytes(_empty())
    return file
