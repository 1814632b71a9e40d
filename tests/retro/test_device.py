"""Settings of the process are put back."""

from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # has no types

from retro.device import one_blas_thread


def blas_threads() -> set[int]:
    """Return the threads of NumPy's own library; FAISS brings another copy."""
    parts = [part for part in threadpool_info() if part["internal_api"] == "openblas"]
    found = {part["num_threads"] for part in parts if "numpy" in part["filepath"]}
    assert found, "NumPy computes with another library here"
    return found


def test_blocks_with_one_blas_thread_may_overlap() -> None:
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)

    assert blas_threads() == before


def test_any_thread_may_ask_for_one_blas_thread() -> None:
    before = blas_threads()
    with ThreadPoolExecutor(1) as other, one_blas_thread():
        assert other.submit(_seen_inside).result() == {1}
        assert blas_threads() == {1}
    with ThreadPoolExecutor(1) as other:
        assert other.submit(_seen_inside).result() == {1}

    assert blas_threads() == before


def _seen_inside() -> set[int]:
    with one_blas_thread():
        return blas_threads()
