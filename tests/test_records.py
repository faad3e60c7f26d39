"""Records: named axes, atomic files, refusals that leave what is there."""

import json

import numpy as np
import pytest

from ntkreg import provenance, records


def test_named_axes_take_single_and_linked_coordinates():
    axes = records.named_axes({("dim", "n"): [(3, 9), (4, 16)], "seed": np.arange(2)})
    assert axes == {("dim", "n"): [(3, 9), (4, 16)], ("seed",): [(0,), (1,)]}
    assert [p["seed"] for p in records.points(axes)] == [0, 1, 0, 1]
    assert records.points(axes)[2] == {"dim": 4, "n": 16, "seed": 0}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"lam": []}, "lam must have at least one value"),
        ({("lam", "n"): [(1, 2)], "n": [1]}, "'n' twice"),
        ({("lam", "n"): [(1, 2, 3)]}, r"must have 2 values, got \(1, 2, 3\)"),
    ],
)
def test_bad_axes_are_named(axes, message):
    with pytest.raises(ValueError, match=message):
        records.named_axes(axes)


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "table.csv"
    records.write_text(path, "old")
    with pytest.raises(RuntimeError), records.written_atomically(path) as file:
        file.write(b"half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "sub"):
        with pytest.raises(ValueError, match=rf"out must be a folder, got the file {file}$"):
            records.check_writable(folder)


def _manifest(folder, config, chunks=((0, 1), (2,)), code=records.points):
    axes = records.named_axes({"seed": range(3)})
    chunks = [{"lanes": list(lanes), "batch": 2} for lanes in chunks]
    plan = {"chunks": chunks, "span": (1.0, 2.0)}
    return records.open_record(folder, axes, provenance.identity(config, code), lambda: plan)


def test_another_configuration_is_refused_and_nothing_is_touched(tmp_path):
    _manifest(tmp_path, {"width": 8})
    before = (tmp_path / records.MANIFEST).read_bytes()
    with pytest.raises(ValueError, match="its width is 8, this one's 9"):
        _manifest(tmp_path, {"width": 9})
    assert (tmp_path / records.MANIFEST).read_bytes() == before


def test_other_code_is_refused(tmp_path):
    _manifest(tmp_path, {})
    with pytest.raises(ValueError, match=r"its code is \w+, this one's \w+"):
        _manifest(tmp_path, {}, code=pytest.raises)


def test_the_first_plan_is_kept(tmp_path):
    first = _manifest(tmp_path, {})
    assert _manifest(tmp_path, {}, chunks=((0,), (1,), (2,))) == json.loads(json.dumps(first))


def test_missing_cells_are_nan_and_the_table_has_a_row_for_each(tmp_path):
    _manifest(tmp_path, {})
    arrays = {"error": np.array([0.5, 0.25]), "path": np.ones((2, 4))}
    records.write_chunk(tmp_path, 0, arrays, (10.0, 12.5))
    record = records.load_record(tmp_path)
    np.testing.assert_array_equal(record.arrays["error"], [0.5, 0.25, np.nan])
    assert record.arrays["path"].shape == (3, 4)
    assert record.table().columns.tolist() == ["seed", "error"]
    assert record.seconds == 1.0 + 2.5  # to plan and to compute


def test_a_table_has_a_row_for_every_value_of_an_inner_axis():
    """Results of shapes (cells), (cells, λ) and (cells, λ, look): each in the rows it is of."""
    lams, looks = [0.5, 0.25, 0.125], ["first", "last"]
    of_looks = np.arange(24).reshape(2, 2, 3, 2)
    arrays = {"of_cell": of_looks[..., 0, 0], "of_lam": of_looks[..., 0], "of_look": of_looks}
    axes = records.named_axes({"dim": [3, 4], "seed": [0, 1]})
    rows = records.Record(axes, {**arrays, "trace": np.zeros((2, 2, 5))}, {}).table(
        lam=lams, look=looks
    )
    assert rows.columns.tolist() == ["dim", "seed", "lam", "look", *arrays]
    assert rows.of_look.tolist() == list(range(24))
    for _, row in rows.iterrows():
        at = row.dim - 3, row.seed, lams.index(row.lam), looks.index(row.look)
        assert row.of_look == of_looks[at]
        assert (row.of_cell, row.of_lam) == (of_looks[*at[:2], 0, 0], of_looks[*at[:3], 0])


def test_seconds_count_overlapping_chunks_once(tmp_path):
    _manifest(tmp_path, {})
    records.write_chunk(tmp_path, 0, {"a": np.zeros(2)}, (0.0, 4.0))
    records.write_chunk(tmp_path, 1, {"a": np.zeros(1)}, (3.0, 5.0))
    assert records.load_record(tmp_path).seconds == 5.0


def test_a_record_of_another_format_is_refused(tmp_path, monkeypatch):
    _manifest(tmp_path, {})
    monkeypatch.setattr(records, "FORMAT", records.FORMAT + 1)
    with pytest.raises(records.Refused, match=r"its format is \d, this one's \d"):
        _manifest(tmp_path, {})


@pytest.mark.parametrize("file", [records.MANIFEST, "chunk-000001.npz"])
def test_a_truncated_file_is_named(tmp_path, file):
    _manifest(tmp_path, {})
    for chunk, size in enumerate((2, 1)):
        records.write_chunk(tmp_path, chunk, {"a": np.zeros(size)}, (0.0, 1.0))
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(records.Refused, match=f"{file} is damaged .*remove"):
        records.load_record(tmp_path)


def test_a_folder_without_a_record_is_named(tmp_path):
    with pytest.raises(ValueError, match="must hold a record"):
        records.load_record(tmp_path)
