"""The Store: a training is found by what decides it, and never half of one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import small
from lth_runner.search.ticket import Start
from lth_runner.store.checkpoint_file import load_checkpoint
from lth_runner.store.store import Store
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Constant, Cosine
from lth_runner.training.recipe import Recipe
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.steps import Duration


@pytest.fixture
def job() -> Job:
    return small.dense_job(small.task())


def entries(folder) -> list:
    return sorted((folder / "entries").glob("*"))


def test_what_was_trained_is_read_and_not_trained_again(tmp_path, job):
    first = next(iter(small.trainer(tmp_path, run="one").fit([job])))
    again = next(iter(small.trainer(tmp_path, run="one").fit([job])))
    other = next(iter(small.trainer(tmp_path, run="two").fit([job])))
    assert (first.reused, again.reused, other.reused) == (False, False, True)
    assert first.seconds == again.seconds == other.seconds
    assert states.fingerprint(first.weights) == states.fingerprint(other.weights)
    assert len(entries(tmp_path)) == 1


def test_the_same_job_twice_in_one_list_is_trained_once(tmp_path, job):
    one, two = list(small.trainer(tmp_path).fit([job, replace(job)]))
    assert one.key == two.key
    assert len(entries(tmp_path)) == 1


def test_everything_that_decides_a_result_is_in_the_key(tmp_path, job):
    trainer = small.trainer(tmp_path)
    problem, ticket = job.task, job.ticket
    other_mask = ~problem.dense()
    changed_jobs = [
        replace(job, task=problem.with_seed(1)),
        replace(job, ticket=replace(ticket, start=Start(step=3))),
        replace(job, ticket=replace(ticket, start=Start(order=1))),
        replace(job, ticket=replace(ticket, start=Start(final_rate=True))),
        replace(job, ticket=replace(ticket, weights=problem.init(5))),
        replace(job, ticket=replace(ticket, mask=other_mask)),
        replace(job, task=small.task(model=small.convolutional)),
    ]
    changed_recipes = [
        small.recipe(length="41it"),
        small.recipe(batch_size=13),
        small.recipe(learning_rate=Cosine()),
        small.recipe(optimizer=functools.partial(torch.optim.SGD, lr=0.2)),
        small.recipe(label_smoothing=0.1),
        small.recipe(precision="bf16"),
    ]
    keys = [trainer.key(other) for other in changed_jobs]
    keys += [replace(trainer, recipe=recipe).key(job) for recipe in changed_recipes]
    keys.append(trainer.key(job))
    assert len(set(keys)) == len(keys)


def test_what_decides_nothing_is_not_in_the_key(tmp_path, job):
    trainer = small.trainer(tmp_path)
    same = [
        small.recipe(checkpoint_minutes=9.0),
        small.recipe(snapshots=["3it"]),
        small.recipe(learning_rate=Constant(), label_smoothing=0.0),  # defaults spelt out
        small.recipe(length=Duration(40, "it")),
    ]
    assert {replace(trainer, recipe=recipe).key(job) for recipe in same} == {trainer.key(job)}
    assert trainer.key(replace(job, snapshots=(1, 2))) == trainer.key(job)
    # weights under the mask decide; those it hides do not
    half = replace(job.ticket, mask=~job.task.dense())
    hidden = {n: w + 1 if n in half.mask else w for n, w in half.weights.items()}
    assert trainer.key(replace(job, ticket=half)) == trainer.key(
        replace(job, ticket=replace(half, weights=hidden))
    )


def test_recipe_names_stay_what_they_are():
    """A changed description would orphan every stored training: change it knowingly."""
    from lth_runner.values import identity

    plain = Recipe("10ep", 60, functools.partial(torch.optim.SGD, lr=0.1))
    assert identity.digest(identity.describe(plain)) == "4ff17a08016e2532c0184785d991af5b"


def test_a_missing_snapshot_is_replayed_from_the_nearest_earlier_one(tmp_path, job, monkeypatch):
    kept = next(iter(small.trainer(tmp_path).fit([replace(job, snapshots=(10,))])))
    fresh = next(iter(small.trainer(tmp_path / "whole").fit([replace(job, snapshots=(17,))])))
    starts = []
    from lth_runner.training import train as engine

    real = engine.replay
    monkeypatch.setattr(
        engine, "replay", lambda *a, **k: starts.append(a[2] and a[2].step) or real(*a, **k)
    )
    assert states.fingerprint(kept.at(17)) == states.fingerprint(fresh.at(17))
    assert states.fingerprint(kept.at(17)) == states.fingerprint(fresh.at(17))
    assert starts == [10]  # once: then it is kept
    assert states.fingerprint(kept.at(0)) == states.fingerprint(job.ticket.masked)


def damage(path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "emptied":
        content = bytearray()
    else:
        content[int(len(content) * 0.9)] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
@pytest.mark.parametrize("name", ["end.safetensors", "training.json"])
def test_a_damaged_training_is_set_aside_said_so_and_done_again(tmp_path, job, caplog, how, name):
    first = next(iter(small.trainer(tmp_path).fit([job])))
    damage(entries(tmp_path)[0] / name, how)
    again = next(iter(small.trainer(tmp_path).fit([job])))
    assert states.fingerprint(again.weights) == states.fingerprint(first.weights)
    assert "damaged, set aside" in caplog.text
    assert len(list((tmp_path / "damaged").iterdir())) == 1


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_over(tmp_path, job, caplog, how):
    from lth_runner.training import train as engine

    trainer = small.trainer(tmp_path)
    draft = trainer.store.draft(trainer.key(job))
    draft.save(engine.replay(job, trainer.recipe, None, 11))
    damage(draft.folder / "checkpoint.safetensors", how)
    trained = next(iter(trainer.fit([job])))
    clean = next(iter(small.trainer(tmp_path / "clean").fit([job])))
    assert states.fingerprint(trained.weights) == states.fingerprint(clean.weights)
    assert "damaged, set aside" in caplog.text


def test_a_damaged_snapshot_is_set_aside_and_replayed(tmp_path, job, caplog):
    trained = next(iter(small.trainer(tmp_path).fit([replace(job, snapshots=(5,))])))
    before = states.fingerprint(trained.at(5))
    damage(entries(tmp_path)[0] / "step-00000005.safetensors", "flipped")
    assert states.fingerprint(trained.at(5)) == before
    assert "damaged, set aside" in caplog.text


def test_derived_values_are_computed_once_and_survive_damage(tmp_path, job):
    trained = next(iter(small.trainer(tmp_path).fit([job])))
    calls = []

    def compute():
        calls.append(1)
        return {"x": torch.ones(3)}

    assert trained.derived("x", compute)["x"].tolist() == [1, 1, 1]
    trained.derived("x", compute)
    assert len(calls) == 1
    damage(entries(tmp_path)[0] / "derived-x.safetensors", "flipped")
    assert trained.derived("x", compute)["x"].tolist() == [1, 1, 1]
    assert len(calls) == 2


def test_publishing_what_another_process_published_first_keeps_one(tmp_path, job):
    trainer = small.trainer(tmp_path)
    list(trainer.fit([job]))
    target = entries(tmp_path)[0]
    # the other process is still at it: its draft is complete when the target already exists
    from lth_runner.training.engines.sequential import Sequential
    from lth_runner.training.pace import Pace
    from lth_runner.training.train import train

    [(_, outcome)] = train(
        Sequential(), [job], trainer.recipe, [trainer.store.draft(trainer.key(job))], Pace()
    )
    entry = trainer.store.publish(trainer.key(job), outcome, {"run": "other", "steps": 40})
    assert entry.folder == target
    assert not (tmp_path / "drafts" / trainer.key(job)).exists()


@contextlib.contextmanager
def an_ordinary_user(folder):
    """Whom the system refuses what its owner keeps to himself, even where tests run as root."""
    is_root, here = os.geteuid() == 0, Path.cwd()
    folder.chmod(0o777)
    os.chdir(folder)  # the folders above are their owner's alone
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        os.chdir(here)


def unreadable(path):
    path.chmod(0)


def no_disk(path):
    path.unlink()
    path.symlink_to("/proc/self/mem")  # which cannot be read from its beginning


def in_a_circle(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("harm", [unreadable, no_disk, in_a_circle])
@pytest.mark.parametrize("name", ["training.json", "end.safetensors"])
def test_a_training_that_cannot_be_read_is_told_and_neither_moved_nor_trained_again(
    tmp_path, job, monkeypatch, harm, name
):
    list(small.trainer(tmp_path / "store").fit([job]))
    [entry] = entries(tmp_path / "store")
    harm(entry / name)
    before = sorted(path.name for path in entry.iterdir())
    for folder in ("", "drafts", "leases"):
        (tmp_path / "store" / folder).chmod(0o777)
    monkeypatch.setattr("lth_runner.training.loop.Loop.outcome", None)  # no training ends
    monkeypatch.chdir(tmp_path)
    reader = an_ordinary_user(tmp_path) if harm is unreadable else contextlib.nullcontext()
    with reader, pytest.raises(UserError) as refused:
        list(small.trainer(Path("store")).fit([job]))
    said = str(refused.value)
    assert f"{entry.relative_to(tmp_path) / name} cannot be read" in said
    assert "left as it is" in said
    assert ("chmod -R g+rX" if harm is unreadable else "See to the disk") in said
    assert sorted(path.name for path in entry.iterdir()) == before
    assert not (tmp_path / "store" / "damaged").exists()


@pytest.mark.parametrize("part", ["checkpoint.safetensors", "step-00000020.safetensors"])
def test_a_checkpoint_that_cannot_be_read_is_told_and_left_where_it_is(tmp_path, part):
    path = tmp_path / part
    path.symlink_to("/proc/self/mem")
    (tmp_path / "format.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)
    assert path.is_symlink()


def test_a_training_on_a_disk_that_is_away_is_told(tmp_path, job):
    trainer = small.trainer(tmp_path)
    (tmp_path / "entries").mkdir()
    (tmp_path / "entries" / trainer.key(job)).symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="a link that leads nowhere"):
        list(trainer.fit([job]))


def test_to_another_users_training_nothing_is_added_and_the_run_goes_on(tmp_path, job, caplog):
    [trained] = small.trainer(tmp_path / "store").fit([job])
    [entry] = entries(tmp_path / "store")
    before = sorted(path.name for path in entry.iterdir())
    with an_ordinary_user(tmp_path):
        found = replace(trained.entry, folder=entry.relative_to(tmp_path))
        assert found.derived("sum", lambda: {"a": torch.ones(1)})["a"] == 1
    if os.geteuid() == 0:  # else it is one's own
        assert "nothing is added" in caplog.text
        assert sorted(path.name for path in entry.iterdir()) == before


HARMED = [b"", b'{"format": 1, "se', b'{"format": 2, "seal": "0"}', b"[1, 2]", b"[" * 200_000]
HARMED += [b'{"a": ' + b"[" * 300 + b"]" * 300 + b', "seal": "0"}']


@pytest.mark.parametrize("content", HARMED, ids=lambda content: content[:20])
def test_a_damaged_format_is_written_again_where_the_trainings_are_of_this_one(
    tmp_path, job, caplog, content
):
    list(small.trainer(tmp_path).fit([job]))
    whole = (tmp_path / "format.json").read_bytes()
    (tmp_path / "format.json").write_bytes(content)
    list(small.trainer(tmp_path).fit([job]))
    assert "damaged, written again" in caplog.text
    assert (tmp_path / "format.json").read_bytes() == whole
    for path in tmp_path.glob("entries/*/training.json"):
        path.write_text("of another version")
    (tmp_path / "format.json").write_bytes(content)
    with pytest.raises(UserError, match=r"no training in .* is one of format 1. Remove that file"):
        Store(tmp_path)


def test_damage_is_never_moved_out_of_the_store(tmp_path, job):
    list(small.trainer(tmp_path / "store").fit([job]))
    [entry] = entries(tmp_path / "store")
    (entry / "end.safetensors").write_bytes(b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "damaged").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"cannot be set aside .*leads out of the Store"):
        list(small.trainer(tmp_path / "store").fit([job]))
    assert entry.exists()


def test_a_store_of_another_format_is_refused(tmp_path):
    store = Store(tmp_path)
    from lth_runner.store.store import write_json

    write_json(store.root / "format.json", {"format": 99})
    with pytest.raises(UserError, match=r"format 99.*paths\.outputs"):
        Store(tmp_path)


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*paths\.outputs"):
        Store(tmp_path / "file" / "store")


def test_nothing_of_a_failed_write_is_left_behind(tmp_path, job, monkeypatch):
    trainer = small.trainer(tmp_path)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        list(trainer.fit([job]))
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    assert next(iter(trainer.fit([job]))).weights  # and the same call goes on


def test_masks_are_stored_as_bits(tmp_path, job):
    list(small.trainer(tmp_path).fit([job]))
    tensors, _ = states.load(entries(tmp_path)[0] / "end.safetensors")
    num_weights = tensors["weights.linear1.weight"].numel()
    assert tensors["mask.linear1.weight"].nbytes == -(-num_weights // 8)


def test_no_stored_file_holds_pickled_code(tmp_path, job):
    list(small.trainer(tmp_path).fit([replace(job, snapshots=(3,))]))
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text())
    shutil.rmtree(tmp_path)


def test_a_training_is_hashed_once_when_written_once_when_read_and_its_start_once(
    tmp_path, job, monkeypatch
):
    hashed = []
    real = states.fingerprint
    monkeypatch.setattr(states, "fingerprint", lambda s: hashed.append(sorted(s)[0]) or real(s))
    start, end = "linear1.bias", "mask.linear1.weight"
    trained = next(iter(small.trainer(tmp_path).fit([job])))
    assert (hashed.count(start), hashed.count(end)) == (1, 1)
    for _ in range(3):
        assert trained.weights.keys() == job.ticket.weights.keys()
        assert trained.mask == job.ticket.mask
        assert small.trainer(tmp_path).key(replace(job, snapshots=(1,))) == trained.key
    assert (hashed.count(start), hashed.count(end)) == (1, 2)
    again = next(iter(small.trainer(tmp_path).fit([job])))
    assert again.weights.keys() == trained.weights.keys()
    assert again.mask == trained.mask
    assert (hashed.count(start), hashed.count(end)) == (1, 3)


@pytest.mark.parametrize(
    ("shared", "umask", "told"), [(0o770, 0o077, 1), (0o770, 0o022, 0), (0o755, 0o077, 0)]
)
def test_a_store_that_others_beside_it_cannot_read_is_told_once(
    tmp_path, caplog, shared, umask, told
):
    tmp_path.chmod(shared)
    before = os.umask(umask)
    try:
        for _ in range(2):
            Store(tmp_path / "outputs" / "store")
    finally:
        os.umask(before)
    assert len([m for m in caplog.messages if "none of them can read" in m]) == told
