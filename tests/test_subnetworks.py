"""Training parts of the network first: the schedule, what is drawn, and that a part stands for the whole."""

from itertools import combinations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from limbeck.distillation.config import StudentConfig  # noqa: E402
from limbeck.distillation.network import Student, Subnetwork  # noqa: E402
from limbeck.distillation.subnetworks import STAGES, operations, sample, stage_of  # noqa: E402

SHAPE = StudentConfig(width=6, inner=4, kernel=3, dilations=(1, 2, 1, 4), states=8)
STEPS = 100


def same(one, other):
    return one.blocks == other.blocks and torch.equal(one.channels, other.channels) and one.scale == other.scale


def inputs(length=12):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 20, (2, length), generator=generator), torch.ones(2, length, 1)


def test_stages_follow_one_another_and_end_with_the_whole():
    ends = [stage.until for stage in STAGES]
    assert ends == sorted(set(ends))
    assert ends[-1] == 1
    assert (STAGES[-1].blocks, STAGES[-1].channels) == (1, 1)
    assert [(s.blocks < 1, s.channels < 1) for s in STAGES] == [(True, True), (False, True), (False, False)]


def test_each_step_belongs_to_the_stage_it_lies_in():
    stages = [STAGES.index(stage_of(step, STEPS)) for step in range(STEPS)]
    assert stages == sorted(stages)
    assert [stages.count(i) for i in range(3)] == [25, 25, 50]
    assert stage_of(STEPS, STEPS) is STAGES[-1]
    assert [STAGES.index(stage_of(step, 1)) for step in range(1)] == [0]


def test_parts_have_the_size_of_their_stage():
    both, columns, whole = (sample(SHAPE, step, STEPS, seed=0) for step in (0, 30, 60))
    assert (len(both.blocks), len(both.channels)) == (3, 2)
    assert (columns.blocks, len(columns.channels)) == ((0, 1, 2, 3), 2)
    assert whole is None
    assert list(both.blocks) == sorted(set(both.blocks))
    assert len(set(both.channels.tolist())) == 2


def test_a_part_is_never_empty():
    least = StudentConfig(width=2, inner=1, kernel=1, dilations=(1,), states=2)
    part = sample(least, 0, STEPS, seed=0)
    assert (part.blocks, part.channels.tolist()) == ((0,), [0])


def test_parts_depend_on_seed_and_step_alone():
    first = sample(SHAPE, 3, STEPS, seed=1)
    torch.manual_seed(99)
    sample(SHAPE, 4, STEPS, seed=1)
    assert same(first, sample(SHAPE, 3, STEPS, seed=1))
    by_step = [sample(SHAPE, step, STEPS, seed=1) for step in range(20)]
    by_seed = [sample(SHAPE, 3, STEPS, seed=seed) for seed in range(20)]
    for parts in (by_step, by_seed):
        assert not all(same(parts[0], part) for part in parts[1:])


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sample(SHAPE, 0, STEPS, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_every_block_and_channel_is_drawn_as_often():
    draws = 1000
    parts = [sample(SHAPE, step, 4 * draws, seed=2) for step in range(draws)]
    blocks = np.bincount(np.concatenate([part.blocks for part in parts]), minlength=4)
    channels = np.bincount(np.concatenate([part.channels for part in parts]), minlength=4)
    for counts, share in ((blocks, 3 / 4), (channels, 1 / 2)):
        assert np.abs(counts - share * draws).max() < 5 * (draws * share * (1 - share)) ** 0.5


def test_the_whole_as_a_part_is_the_whole():
    student = Student(SHAPE).eval()
    part = Subnetwork((0, 1, 2, 3), torch.arange(4), 1.0)
    torch.testing.assert_close(student(*inputs(), part), student(*inputs()))
    torch.testing.assert_close(student(*inputs(), part._replace(channels=None)), student(*inputs()))


def test_the_mean_over_all_parts_is_the_whole():
    """Blocks whose output does not depend on the blocks before: then the expectation is exact, biases included."""
    torch.manual_seed(0)
    student = Student(SHAPE).eval()
    student.norm = torch.nn.Identity()
    for block in student.blocks:
        torch.nn.init.zeros_(block.conv.weight)
        torch.nn.init.normal_(block.conv.bias)
        torch.nn.init.normal_(block.out.bias)
    like = sample(SHAPE, 0, STEPS, seed=0)
    parts = [
        like._replace(blocks=blocks, channels=torch.tensor(channels))
        for blocks in combinations(range(4), len(like.blocks))
        for channels in combinations(range(4), len(like.channels))
    ]
    assert len(parts) == 24
    mean = torch.stack([student.residues(*inputs(), part) for part in parts]).mean(0)
    torch.testing.assert_close(mean, student.residues(*inputs()), atol=1e-5, rtol=1e-5)


def test_a_part_trains_nothing_else():
    student = Student(SHAPE)
    part = Subnetwork((0, 2), torch.tensor([1, 3]), 4.0)
    student(*inputs(), part).features.square().sum().backward()
    for index, block in enumerate(student.blocks):
        if index not in part.blocks:
            assert block.conv.weight.grad is None
            continue
        assert block.conv.weight.grad[[0, 2]].abs().sum() == 0
        assert block.out.weight.grad[:, [0, 2]].abs().sum() == 0
        assert (block.conv.weight.grad[[1, 3]].abs().sum((1, 2)) > 0).all()


def test_operations_count_each_weight_that_is_multiplied():
    student = Student(SHAPE)
    multiplied = [*(w for b in student.blocks for w in (b.conv.weight, b.out.weight))]
    heads = sum(m.weight.numel() for m in (student.contexts, student.profile))
    trunk = sum(w.numel() for w in multiplied)
    assert operations(SHAPE) == 6 * (trunk + heads)
    # Three of four blocks, two of four channels.
    assert operations(SHAPE, sample(SHAPE, 0, STEPS, seed=0)) == 6 * (trunk * 3 / 4 / 2 + heads)
    assert operations(SHAPE, Subnetwork((1,), None, 1.0)) == 6 * (trunk / 4 + heads)
