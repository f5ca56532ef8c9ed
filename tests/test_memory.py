import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from sanslabel.memory import Bank, Center, Frozen, Queue, add_teacher_, ema_, follow_, teacher_of
from sanslabel.methods.method import Networks


def test_after_k_steps_the_teacher_has_its_closed_form():
    student = nn.Linear(1, 1)
    nn.init.constant_(student.weight, 1.0)
    teacher = teacher_of(student)
    nn.init.constant_(teacher.weight, 0.0)
    for _ in range(10):
        ema_(teacher, student, 0.99)
    assert teacher.weight.item() == pytest.approx(0.0956179, abs=1e-6)


@pytest.mark.parametrize(("momentum", "follows"), [(1.0, False), (0.0, True)])
def test_momentum_one_stays_and_zero_copies(momentum, follows):
    student = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    teacher = teacher_of(student)
    with torch.no_grad():
        student[0].weight.add_(1.0)
        student[1].running_mean.add_(1.0)
    before = teacher[0].weight.clone()
    ema_(teacher, student, momentum)
    assert torch.equal(teacher[0].weight, student[0].weight if follows else before)
    assert not torch.equal(teacher[1].running_mean, student[1].running_mean), "statistics are each one's own"


def test_a_teacher_shares_nothing_and_learns_nothing():
    student = nn.Linear(2, 2)
    teacher = teacher_of(student)
    assert teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher.weight.data_ptr() != student.weight.data_ptr()
    assert student.weight.requires_grad


def lengths(rows: torch.Tensor) -> torch.Tensor:
    return rows.norm(dim=1)


def test_a_queue_is_first_in_first_out():
    queue = Queue(6, 3)
    start = queue.embeddings.clone()
    torch.testing.assert_close(lengths(start), torch.ones(6))
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    queue.push_(first)
    assert torch.equal(queue.embeddings[:4], normalize(first, dim=1))
    assert torch.equal(queue.embeddings[4:], start[4:]), "exactly as many rows change as were pushed"
    assert queue.cursor == 4
    queue.push_(second)  # wraps: the oldest rows are the random ones and the first of the batch before
    assert torch.equal(queue.embeddings[[4, 5, 0, 1]], normalize(second, dim=1))
    assert torch.equal(queue.embeddings[2:4], normalize(first, dim=1)[2:])
    assert queue.cursor == 2


def test_a_queue_keeps_the_last_of_a_batch_that_is_longer():
    queue, z = Queue(3, 2), torch.randn(8, 2)
    queue.push_(z)
    assert torch.equal(queue.embeddings, normalize(z[5:], dim=1))


def test_after_enough_pushes_nothing_random_is_left():
    queue, pushed = Queue(10, 2), []
    for _ in range(4):  # of 3 rows each
        pushed.append(torch.randn(3, 2))
        queue.push_(pushed[-1])
    last = normalize(torch.cat(pushed)[-10:], dim=1)
    assert sorted(queue.embeddings.tolist()) == sorted(last.tolist())


def test_memories_are_state_and_no_gradient_reaches_them():
    queue, bank = Queue(4, 2), Bank(5, 2)
    assert set(queue.state_dict()) == {"embeddings", "cursor"}
    assert set(bank.state_dict()) == {"embeddings"}
    assert not list(queue.parameters()) + list(bank.parameters())
    z = torch.randn(2, 2, requires_grad=True)
    queue.push_(z)
    bank.write_(torch.tensor([0, 3]), z, 0.5)
    assert not queue.embeddings.requires_grad
    assert not bank.embeddings.requires_grad
    other = Queue(4, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.embeddings, queue.embeddings)
    assert other.cursor == 2


def test_a_bank_forgets_by_its_momentum():
    bank, index, z = Bank(6, 3), torch.tensor([4, 1]), 5 * torch.randn(2, 3)
    start = bank.embeddings.clone()
    bank.write_(index, z, 1.0)
    torch.testing.assert_close(bank.embeddings, start)
    bank.write_(index, z, 0.5)
    torch.testing.assert_close(bank.embeddings[index], normalize(0.5 * start[index] + 0.5 * normalize(z, dim=1), dim=1))
    bank.write_(index, z)
    torch.testing.assert_close(bank.embeddings[index], normalize(z, dim=1))
    torch.testing.assert_close(lengths(bank.embeddings), torch.ones(6))
    untouched = [0, 2, 3, 5]
    assert torch.equal(bank.embeddings[untouched], start[untouched])


def test_a_bank_passes_over_what_is_not_finite():
    bank, z = Bank(4, 2), torch.tensor([[torch.nan, 1.0], [torch.inf, 0.0], [3.0, 4.0]])
    start = bank.embeddings.clone()
    bank.write_(torch.tensor([0, 1, 2]), z, 0.0)
    assert torch.equal(bank.embeddings[[0, 1, 3]], start[[0, 1, 3]])
    torch.testing.assert_close(bank.embeddings[2], torch.tensor([0.6, 0.8]))


def test_of_a_sample_that_is_in_the_batch_twice_the_first_counts():
    bank, z = Bank(4, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    bank.write_(torch.tensor([2, 0, 2, 2]), z)
    assert bank.embeddings[[2, 0]].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_first_of_each_sample_is_found_among_many():
    index = torch.randint(0, 300, (500,), generator=torch.Generator().manual_seed(0))
    bank, z = Bank(300, 4), torch.randn(500, 4)
    start, first = bank.embeddings.clone(), {}
    for position, sample in enumerate(index.tolist()):
        first.setdefault(sample, position)
    bank.write_(index, z)
    for sample in range(300):
        row = normalize(z[first[sample]], dim=0) if sample in first else start[sample]
        torch.testing.assert_close(bank.embeddings[sample], row)


def test_rows_of_a_bank_are_drawn_from_keys_alike():
    bank = Bank(50, 4)
    keys = torch.arange(200)
    drawn = bank.random_index(keys, 30, stream=3)
    assert drawn.shape == (200, 30)
    assert torch.equal(bank.random_index(keys[7:9], 30, stream=3), drawn[7:9]), "whatever else is in the batch"
    assert not torch.equal(bank.random_index(keys, 30, stream=4), drawn)
    counts = drawn.flatten().bincount(minlength=50)
    assert counts.sum() == 6000
    assert ((counts - 120).abs() < 5 * 120**0.5).all()


def test_a_center_of_constant_logits_has_its_closed_form():
    center, logits = Center(3), torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 0.5]])
    for steps in range(1, 21):
        center.update_(logits, 0.9)
        torch.testing.assert_close(center.mean, (1 - 0.9**steps) * logits.mean(dim=0))


def test_a_center_is_state_that_no_gradient_reaches():
    center, logits = Center(2), torch.tensor([[1.0, 2.0]], requires_grad=True)
    center.update_(logits.bfloat16(), 0.0)
    assert torch.equal(center.mean, torch.tensor([1.0, 2.0]))
    center.update_(logits, 1.0)
    assert torch.equal(center.mean, torch.tensor([1.0, 2.0]))
    assert center.mean.dtype == torch.float32
    assert not center.mean.requires_grad
    assert set(center.state_dict()) == {"mean"}
    assert not list(center.parameters())


def test_a_teacher_follows_only_the_parts_that_it_has():
    student = nn.ModuleDict({"encoder": nn.Linear(2, 2)})
    teacher = teacher_of(student)
    student["predictor"] = nn.Linear(2, 2)
    student["teacher"] = teacher
    with torch.no_grad():
        student["encoder"].weight.add_(1.0)
    before = teacher["encoder"].weight.clone()
    ema_(teacher, student, 0.75)
    torch.testing.assert_close(teacher["encoder"].weight, before + 0.25)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_teacher_is_added_and_follows_only_with_a_momentum():
    torch.manual_seed(0)
    for momentum, weight in ((None, None), (1.0, 2.0), (0.75, 2.25), (0.0, 3.0)):
        net = Networks(encoder=nn.Linear(1, 1, bias=False))
        nn.init.constant_(net.encoder.weight, 2.0)
        add_teacher_(net, momentum)
        assert hasattr(net, "teacher") == (momentum is not None)
        assert net.partner is (net if momentum is None else net.teacher)
        nn.init.constant_(net.encoder.weight, 3.0)
        follow_(net, momentum)
        assert net.encoder.weight.item() == 3
        assert momentum is None or net.teacher.encoder.weight.item() == pytest.approx(weight)


def test_a_frozen_network_is_no_part_of_the_state_and_moves_with_it():
    given = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net = Networks(encoder=nn.Linear(3, 2), given=Frozen(given))
    assert set(net.state_dict()) == {"encoder.weight", "encoder.bias"}
    assert {name for name, _ in net.named_parameters()} == {"encoder.weight", "encoder.bias"}
    x, before = torch.randn(4, 3, dtype=torch.float64), given[1].running_mean.clone()
    net.double().train()
    assert given[0].weight.dtype == torch.float64
    assert not net.given(x).requires_grad
    torch.testing.assert_close(net.given(x), given.eval()(x))
    assert torch.equal(given[1].running_mean, before.double()), "it stays in evaluation mode"
