"""Makes the project's modules importable and finds the real data that tests may use."""

import gc
import importlib.util
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED_DATA = os.path.abspath(os.environ.get(
    "ALBERT_ZH_SHARED_DATA", os.path.join(os.path.dirname(ROOT), "shared", "data")))
sys.path.insert(0, ROOT)

if importlib.util.find_spec("tensorflow"):  # the environment of Apache Beam has none
    import runtime  # noqa: F401 - quiet start, before any test imports TensorFlow


# Without Estimator, as on the newest TensorFlow, only what runs a model is tested.
if "runtime" in sys.modules and not runtime.HAS_ESTIMATOR:
    RUNS_A_MODEL = ("test_export_model.py", "test_foundations.py", "test_inference.py",
                    "test_modeling.py", "test_similarity.py", "test_tokenization.py")
    collect_ignore = [name for name in os.listdir(os.path.dirname(os.path.abspath(__file__)))
                      if name.startswith("test_") and name not in RUNS_A_MODEL]


def pytest_collection_finish(session):
    """Looks less often for garbage: graphs are made of millions of small objects that last."""
    del session
    gc.collect()
    gc.freeze()
    gc.set_threshold(100000, 50, 100)


@pytest.fixture(scope="session", autouse=True)
def graphs_are_not_written_as_text():
    """Spares trainings in this process TensorFlow's graph.pbtxt, which is slow to write."""
    if "tensorflow" not in sys.modules:
        yield
        return
    from tensorflow.python.training import training_util
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_util, "write_graph", lambda *arguments, **settings: None)
        yield


@pytest.fixture(scope="session")
def root():
    """Path of the project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """Path of the real data beside the project; tests that need it skip where it is absent."""
    if not os.path.isdir(SHARED_DATA):
        pytest.skip("no real data at %s (set ALBERT_ZH_SHARED_DATA)" % SHARED_DATA)
    return SHARED_DATA


@pytest.fixture(scope="session")
def vocab_file():
    """Path of the Chinese vocabulary, 21,128 entries."""
    return os.path.join(ROOT, "albert_config", "vocab.txt")
