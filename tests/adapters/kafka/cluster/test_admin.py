"""Questions of many flows that are asked at one moment go out as one, and one flow's trouble delays no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future

from choreo.adapters.kafka.cluster.admin import JointQuestions


class Cluster:
    """Answers each part with its double, at once; `broken` parts with an error, `silent` ones never."""

    def __init__(self, *, broken: Collection[int] = (), silent: Collection[int] = ()) -> None:
        self.asked: list[list[int]] = []
        self._broken, self._silent = broken, silent

    def ask(self, parts: Collection[int]) -> Mapping[int, Future[int]]:
        """Take one question."""
        self.asked.append(sorted(parts))
        answers: dict[int, Future[int]] = {part: Future() for part in parts}
        for part, answer in answers.items():
            if part in self._broken:
                answer.set_exception(OSError("not this one"))
            elif part not in self._silent:
                answer.set_result(2 * part)
        return answers


async def test_questions_of_one_moment_are_one_and_each_gets_its_own_answers() -> None:
    """Also two that ask the same."""
    cluster, joint = Cluster(), JointQuestions()
    answers = await asyncio.gather(*(joint.ask("ends", parts, cluster.ask) for parts in ([1, 2], [2], [3])))
    assert answers == [{1: 2, 2: 4}, {2: 4}, {3: 6}]
    assert cluster.asked == [[1, 2, 3]]


async def test_questions_of_different_kinds_and_later_ones_are_questions_of_their_own() -> None:
    """An answer is never older than its question."""
    cluster, joint = Cluster(), JointQuestions()
    await asyncio.gather(joint.ask("begins", [1], cluster.ask), joint.ask("ends", [1], cluster.ask))
    await joint.ask("ends", [1], cluster.ask)
    assert cluster.asked == [[1], [1], [1]]


async def test_an_error_is_left_to_whoever_asks_for_that_part() -> None:
    """The others have their answers."""
    cluster, joint = Cluster(broken=[2]), JointQuestions()
    assert await asyncio.gather(joint.ask("ends", [1], cluster.ask), joint.ask("ends", [2], cluster.ask)) == [
        {1: 2},
        None,
    ]


async def test_a_question_that_cannot_be_sent_is_left_to_each() -> None:
    """They ask alone, and raise their own errors."""

    def refuse(_: Collection[int]) -> Mapping[int, Future[int]]:
        raise OSError("no client")

    assert await JointQuestions().ask("ends", [1], refuse) is None


async def test_who_waits_for_a_part_that_is_not_answered_asks_alone_soon() -> None:
    """The topic of a broker that is away holds nobody up for longer than this."""
    cluster, joint = Cluster(silent=[2]), JointQuestions(joint_s=0.01)
    answers = await asyncio.gather(joint.ask("ends", [1], cluster.ask), joint.ask("ends", [2], cluster.ask))
    assert answers == [None, None]


async def test_answers_that_come_in_several_threads_at_once_are_all_counted() -> None:
    """The last one wakes the loop, also where some were there before anybody listened."""
    parts = range(200)

    def ask(asked: Collection[int]) -> Mapping[int, Future[int]]:
        answers: dict[int, Future[int]] = {part: Future() for part in asked}
        for first in range(4):
            share = [answers[part] for part in asked if part % 4 == first]
            threading.Thread(target=lambda share=share: [answer.set_result(1) for answer in share]).start()
        return answers

    for _ in range(20):
        assert await JointQuestions(joint_s=60).ask("ends", parts, ask) == dict.fromkeys(parts, 1)
