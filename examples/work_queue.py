"""A work queue with failover: jobs of a worker that dies are done by another.

    python examples/work_queue.py work NAME [DAEMON...]
    python examples/work_queue.py submit JOB... [-s DAEMON]

A job is an AGREED message to the group of workers.  All workers see jobs, results and
membership changes in one order, so each knows without further talk whose job it is: the
worker with the fewest jobs at that place in the order, the first of equals.  When a worker
is gone, its jobs pass to others that saw them being submitted.  A job is done at least
once; a worker cut off while it works may do one that somebody else does again.
"""

from __future__ import annotations

import json
import sys
import time

from twisted.internet import defer, task, threads

from txspread import blocking
from txspread.client import (
    AGREED_MESS,
    Connected,
    DataMessage,
    Disconnected,
    MembershipMessage,
    SpreadService,
)

GROUP = "workers"


class Worker:
    """Takes part in the work."""

    def __init__(self, service: SpreadService, do, say=print) -> None:
        self.service = service
        self.do = do  # does a job, returns a result; called in a thread
        self.say = say
        self.me = ""
        self.members: tuple[str, ...] = ()
        self.jobs: dict[str, dict] = {}  # id to job, in the order of submission
        self.busy = False

    async def run(self) -> None:
        async for event in self.service:
            if isinstance(event, Connected):
                self.me = event.private_group
            elif isinstance(event, Disconnected):
                self.jobs.clear()  # the others have taken them over
            elif isinstance(event, MembershipMessage):
                self.view(event)
            elif isinstance(event, DataMessage):
                self.message(json.loads(event.body))
            self.work()

    def view(self, view: MembershipMessage) -> None:
        self.members = view.members
        self.say(f"workers: {', '.join(self.members)}")
        for job in self.jobs.values():
            if job["owner"] not in self.members:
                old = job["owner"]
                self.assign(job, [name for name in job["seen_by"] if name in self.members])
                if job["owner"] == self.me:
                    self.say(f"taking over {job['id']} from {old}")

    def message(self, message: dict) -> None:
        if "result" in message:
            job = self.jobs.pop(message["id"], None)
            if job is not None:
                self.say(f"{message['id']} done by {message['by']}: {message['result']}")
        elif message["id"] not in self.jobs:
            job = {"id": message["id"], "job": message["job"], "seen_by": self.members}
            self.assign(job, self.members)
            self.jobs[job["id"]] = job

    def assign(self, job: dict, candidates) -> None:
        load = dict.fromkeys(candidates, 0)
        for other in self.jobs.values():
            if other["owner"] in load:
                load[other["owner"]] += 1
        job["owner"] = min(load, key=load.get) if load else None

    def work(self) -> None:
        """Begin the first own job, unless one is being done."""
        own = (job for job in self.jobs.values() if job["owner"] == self.me)
        mine = next((job for job in own if "answered" not in job), None)
        if self.busy or mine is None or self.service.connection is None:
            return
        self.busy = True
        doing = threads.deferToThread(self.do, mine["job"])
        doing.addCallbacks(lambda result: self.finished(mine, result), self.failed)

    def finished(self, job: dict, result: str) -> None:
        self.busy = False
        if job["id"] in self.jobs and self.service.connection is not None:
            # It stays in the list until everybody, ourselves included, sees the result.
            job["answered"] = True
            message = {"id": job["id"], "by": self.me, "result": result}
            self.service.multicast(AGREED_MESS, GROUP, json.dumps(message).encode())
        self.work()

    def failed(self, failure) -> None:
        self.say(f"a job failed: {failure.value}; leaving it to others")
        self.service.stopService()


def submit(jobs: list[str], daemon: str | None) -> None:
    with blocking.connect(daemon, "", membership=0, timeout=10) as mailbox:
        for number, job in enumerate(jobs, 1):
            name = f"{mailbox.private_group}/{number}/{int(time.time())}"
            mailbox.multicast(AGREED_MESS, GROUP, json.dumps({"id": name, "job": job}), 0)


def example_job(seconds: str) -> str:
    """Stands for real work."""
    time.sleep(float(seconds))
    return f"slept {seconds} s"


def main(reactor, name: str, *daemons: str) -> defer.Deferred:
    service = SpreadService(daemons or ["4803"], name, groups=[GROUP])
    worker = Worker(service, example_job, lambda text: print(text, flush=True))
    service.startService()
    return defer.ensureDeferred(worker.run())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", _, *_]:
            task.react(main, sys.argv[2:])
        case ["submit", *jobs, "-s", daemon]:
            submit(jobs, daemon)
        case ["submit", *jobs] if jobs:
            submit(jobs, None)
        case _:
            sys.exit(__doc__)
