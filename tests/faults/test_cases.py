"""Every fault case of the simulation, with one seed each; `make prove` runs many."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from prove.mutations import MUTANTS, found_by
from prove.registry import CASES, Trial
from prove.runner import run_once

DETERMINISTIC = [case for case in CASES.values() if case.layer == "deterministic"]


@pytest.mark.parametrize("case", DETERMINISTIC, ids=lambda case: case.id)
def test_a_fault_case_finds_no_violation(case):
    seed = DETERMINISTIC.index(case) % 7
    found = run_once(case.id, seed)
    assert not found.violations, "\n".join((f"python -m prove --case {case.id} --seed {seed}", *found.violations))


def test_the_same_seed_gives_the_same_history():
    first, second = Trial(11), Trial(11)
    for trial in (first, second):
        CASES["F1.any-step"].body(trial)
    assert [each.digest() for each in first.histories] == [each.digest() for each in second.histories]
    other = Trial(12)
    CASES["F1.any-step"].body(other)
    assert other.histories[0].digest() != first.histories[0].digest()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_put_in_on_purpose_is_found(mutant):
    assert found_by(mutant) is not None


def test_every_case_says_what_happens_in_a_sentence():
    assert all(case.sentence.endswith(".") for case in CASES.values())
    assert {case.id.partition(".")[0] for case in CASES.values()} >= {
        f"F{number}" for number in (1, 2, 6, 16, 23, 27, *range(32, 37), 44)
    }


def test_a_proof_that_is_stopped_shows_what_it_found_until_then():
    command = [sys.executable, "-m", "prove", "--case", "F9", "--first", "5", "--seeds", "100000", "--workers", "2"]
    proof = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while proof.poll() is None and not psutil.Process(proof.pid).children():
        time.sleep(0.1)
    proof.send_signal(signal.SIGTERM)
    said, _ = proof.communicate(timeout=60)
    assert proof.returncode == 130
    (case,) = json.loads(said)["cases"]
    assert (case["case"], case["violations"]) == ("F9", 0)
