"""The healthy pass as one would write it in Python: is the newest heartbeat fresh?

It makes the same calls as the watchdog does when all is well: one state read, one Insights query with its polls, one
state write. It knows no causes, no jobs and no restarts. `make bench` measures it beside the watchdog.
"""

import json
import os
import re
import time
from datetime import datetime, timezone

import boto3

LOG_GROUP = os.environ["LOG_GROUP"]
SCHEDULER = os.environ["SCHEDULER"]
STALE_AFTER = 300
QUERY = r"""fields @timestamp, @ingestionTime, @logStream, @message
| filter @message like /(?i)(No scheduled commands are ready to run|Running \[|Running scheduled command|ERROR|Exception)/
| sort @timestamp desc
| limit 10000"""
HEARTBEAT = re.compile(r"No scheduled commands are ready to run|Running \[.+?\]|Running scheduled command:")

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
logs = boto3.client("logs")
topic = boto3.resource("sns").Topic(os.environ["TOPIC_ARN"])


def handler(event, context):
    now = int(time.time())
    item = table.get_item(Key={"scheduler": SCHEDULER}, ConsistentRead=True).get("Item", {"version": 0, "state": "{}"})
    version, state = int(item["version"]), json.loads(item["state"])

    checked_until = state.get("checked_until", now - 1800)
    query = logs.start_query(
        logGroupName=LOG_GROUP, startTime=checked_until - 120, endTime=now, queryString=QUERY, limit=10000
    )
    while True:
        answer = logs.get_query_results(queryId=query["queryId"])
        if answer["status"] not in ("Scheduled", "Running"):
            break
        time.sleep(0.2)

    last = state.get("last", 0)
    for row in answer["results"]:
        fields = {field["field"]: field["value"] for field in row}
        if HEARTBEAT.search(fields["@message"]):
            at = datetime.fromisoformat(fields["@timestamp"]).replace(tzinfo=timezone.utc).timestamp()
            last = max(last, at)

    is_silent = now - last > STALE_AFTER
    if is_silent and not state.get("firing"):
        topic.publish(Subject=f"{SCHEDULER}: the scheduler is silent", Message=f"No heartbeat since {last}.")
    state = {"checked_until": now, "last": last, "firing": is_silent}
    table.put_item(
        Item={
            "scheduler": SCHEDULER,
            "version": version + 1,
            "state": json.dumps(state),
            "updated_at": datetime.now(timezone.utc).isoformat(),
        },
        ConditionExpression="attribute_not_exists(scheduler) OR version = :version",
        ExpressionAttributeValues={":version": version},
    )
    return {"verdict": "firing" if is_silent else "healthy"}
