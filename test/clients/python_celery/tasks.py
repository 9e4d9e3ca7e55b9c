"""tasks: the Celery application that the suite's workers run."""

import os
import sys

import celery

app = celery.Celery("tasks", broker=os.environ["LEPUS_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ.get("LEPUS_CELERY_QUEUE", "celery"),
    worker_prefetch_multiplier=2,
    result_expires=None,
    broker_connection_retry=True,
    worker_hijack_root_logger=True,
    task_serializer="json",
)


@app.task
def add(x, y):
    return x + y


@app.task
def fail():
    raise ValueError("as asked")


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def retry(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(acks_late=True, reject_on_worker_lost=True)
def late(x):
    return -x


@app.task
def blob(n):
    return "x" * n


if __name__ == "__main__":
    sys.exit(app.worker_main(sys.argv[1:]))
