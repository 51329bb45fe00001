import csv

from mmret.training.logs import merge_logs


def write(folder, version, rows):
    path = folder / f"logs/version_{version}/metrics.csv"
    path.parent.mkdir(parents=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def test_a_resumed_start_replaces_the_steps_it_repeats(tmp_path):
    write(tmp_path, 0, [{"step": 1, "train/loss": 5}, {"step": 2, "train/loss": 4}, {"step": 3, "train/loss": 9}])
    write(tmp_path, 1, [{"step": 3, "train/loss": 3}, {"step": 3, "recall": 1}, {"step": 4, "train/loss": 2}])
    with merge_logs(tmp_path).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["train/loss"]) for row in rows] == [("1", "5"), ("2", "4"), ("3", "3"), ("4", "2")]
    assert rows[2]["recall"] == "1"
