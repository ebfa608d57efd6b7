"""The training engine: average weights, accumulation, several processes, subnetworks, what it writes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from limbeck.distillation.config import StudentConfig, TrainingConfig  # noqa: E402
from limbeck.distillation.corpus import Corpus  # noqa: E402
from limbeck.distillation.network import Student  # noqa: E402
from limbeck.distillation.objectives import FamilyContrast, HiddenResidues  # noqa: E402
from limbeck.distillation.training import Machines, WeightAverage, train  # noqa: E402
from limbeck.errors import InputError  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
TINY = StudentConfig(width=16, inner=16, kernel=5, dilations=(1, 2), states=24)
QUICK = TrainingConfig(
    steps=4, batch_residues=6144, warmup=2, evaluate_every=2, precision="f32", compile=False, student=TINY
)


@pytest.fixture(scope="module")
def corpus():
    corpus = Corpus(EXAMPLE, held_out=0.1)
    # Neighbours of the genome as families, for the contrast to have something to work on.
    corpus.families = np.arange(len(corpus)) // 4
    corpus.is_validation = corpus.families % 9 == 0
    return corpus


def trained(corpus, folder, config=QUICK, **options):
    torch.manual_seed(config.seed)
    objectives = [HiddenResidues(), FamilyContrast(TINY.width, weight=0.3)]
    return train(config, corpus, objectives, folder, student=Student(config.student), **options).state_dict()


def assert_same(a, b, tolerance):
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_micro_batches_add_up_to_the_batch(corpus, tmp_path):
    """Contrast looks at one micro-batch at a time, so it is left out."""

    def run(accumulate):
        torch.manual_seed(0)
        # Two micro-batches ask for a multiple of four rows; so does the other run.
        config = dataclasses.replace(QUICK, accumulate=accumulate, contrast=0.0)
        student = Student(TINY)
        return train(config, corpus, [HiddenResidues()], tmp_path / str(accumulate), student=student)

    whole, halves = run(1).state_dict(), run(2).state_dict()
    assert_same(whole, halves, 1e-4)


def test_two_processes_learn_what_one_does(corpus, tmp_path):
    """By torchrun, as a user would start it; at the same global batch, contrast included."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "import test_training as t\n"
        "from limbeck.distillation.corpus import Corpus\n"
        "corpus = Corpus(t.EXAMPLE, held_out=0.1)\n"
        "corpus.families = np.arange(len(corpus)) // 4\n"
        "corpus.is_validation = corpus.families % 9 == 0\n"
        "fabric = t.Machines(processes=2).fabric('f32')\n"
        "fabric.launch()\n"
        "assert fabric.world_size == 2\n"
        "weights = t.trained(corpus, Path(sys.argv[2]) / 'two', fabric=fabric)\n"
        "if fabric.is_global_zero: torch.save(weights, Path(sys.argv[2]) / 'two.pt')\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launcher, script, Path(__file__).parent, tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    one = trained(corpus, tmp_path / "one")
    assert_same(one, two, 1e-4)
    logs = [json.loads((tmp_path / n / "log.jsonl").read_text().splitlines()[-1]) for n in ("one", "two")]
    assert logs[0]["validation"]["hidden"] == pytest.approx(logs[1]["validation"]["hidden"], abs=1e-3)


def test_average_weights_follow_at_a_distance():
    layer = torch.nn.Linear(2, 1)
    average = WeightAverage(layer, 0.9)
    first = layer.weight.detach().clone()
    expected = first.clone()
    for step in range(1, 40):
        with torch.no_grad():
            layer.weight += 1
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    last = layer.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), expected)
    torch.testing.assert_close(layer.weight.detach(), last)


def test_log_holds_what_the_report_reads(corpus, tmp_path):
    trained(corpus, tmp_path, probe=lambda student: {"width": float(student.config.width)})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert 0.5 * 4 * QUICK.batch_residues < lines[1]["residues"] <= 4 * QUICK.batch_residues
    assert lines[1]["operations"] / lines[1]["residues"] == lines[0]["operations"] / lines[0]["residues"] > 0
    assert lines[1]["seconds"] > lines[0]["seconds"] > 0
    assert set(lines[0]["losses"]) == {"hidden", "contrast"}
    assert set(lines[0]["validation"]) == {"hidden"}
    assert lines[0]["probes"] == {"width": 16.0}
    arrays = [np.load(path) for path in sorted((tmp_path / "validation").glob("step-*.npz"))]
    assert len(arrays) == 2
    assert arrays[0]["loss"].shape == arrays[0]["mask"].shape == arrays[0]["ids"].shape
    np.testing.assert_array_equal(arrays[0]["ids"], arrays[1]["ids"])  # the same crops each time
    np.testing.assert_array_equal(arrays[0]["mask"], arrays[1]["mask"])
    assert arrays[0]["mask"].any()
    assert (arrays[0]["loss"][arrays[0]["mask"]] > 0).all()


def test_log_lines_after_the_checkpoint_are_written_again(corpus, tmp_path):
    trained(corpus, tmp_path)
    log = tmp_path / "log.jsonl"
    before = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    with log.open("a") as file:
        file.write(json.dumps({"step": 99}) + "\n" + '{"step": 1')
    trained(corpus, tmp_path, resume=True)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == before


def test_subnetworks_spend_fewer_operations(corpus, tmp_path):
    trained(corpus, tmp_path / "whole")
    trained(corpus, tmp_path / "parts", dataclasses.replace(QUICK, subnetworks=True))
    spent = [
        json.loads((tmp_path / n / "log.jsonl").read_text().splitlines()[-1])["operations"] for n in ("whole", "parts")
    ]
    assert spent[1] < 0.95 * spent[0]


def test_chosen_proteins_alone_are_learned_from(corpus, tmp_path):
    chosen = np.zeros(len(corpus), dtype=bool)
    chosen[100:140] = True
    weights = trained(corpus, tmp_path / "few", chosen=chosen)
    others = trained(corpus, tmp_path / "all")
    assert not torch.equal(weights["embed.weight"], others["embed.weight"])


def test_tensorboard_curves(corpus, tmp_path):
    pytest.importorskip("tensorboard")
    trained(corpus, tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_device_that_is_not_here_is_one_line():
    missing = "cuda" if not torch.cuda.is_available() else "cuda:99"
    with pytest.raises(InputError, match=f"device '{missing}' is not on this machine; use auto or cpu"):
        Machines(missing).fabric("f32")


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        (Machines(processes=0), "--processes and --nodes must be at least 1"),
        (Machines("cpu:0", processes=2), "cpu:0 is one device, for one process; leave its number out"),
        (Machines("meta"), "nothing is trained on device 'meta'"),
    ],
)
def test_machines_that_cannot_be(machines, message):
    with pytest.raises(InputError, match=message):
        machines.fabric("f32")


def test_torchrun_with_another_number_of_processes_is_refused(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="torchrun started 2 processes; give --processes and --nodes to match"):
        Machines().fabric("f32")
