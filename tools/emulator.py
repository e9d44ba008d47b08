"""Starts MiniStack with the few things corrected in which it differs from AWS and the watchdog notices.

Run it with the Python of .tools/ministack and MiniStack's own environment variables:

    AUTH=true GATEWAY_PORT=4601 AWS_ENDPOINT_URL=http://127.0.0.1:4601 BIND_HOST=127.0.0.1 \
        .tools/ministack/bin/python tools/emulator.py

EMULATOR_SECONDS_PER_MINUTE (default 60) makes the minutes of `rate(…)` schedules shorter. No other clock changes.
EMULATOR_SERVICE_AGE_MINUTES (default 0) makes an ECS service and its tasks that old when it is created, and a task that
EventBridge Scheduler starts. What is deployed or run later by others is new.
EMULATOR_HTTP=1.1 leaves HTTP/2 out, over TLS too.

Every correction replaces one function of MiniStack 1.5 and stops with an error if that function is gone.
"""

import json
import os
from datetime import datetime, timedelta, timezone

from hypercorn.config import Config
from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch_logs, ecs, eventbridge, scheduler


def replace(module, name, make):
    """Replace the function `name` of `module` by what `make` returns for it."""
    setattr(module, name, make(getattr(module, name)))


def fields(body):
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def short(name_or_arn):
    return str(name_or_arn or "default").rsplit("/", 1)[-1]


# --- Permissions -----------------------------------------------------------------------------------------------------
# MiniStack checks every ECS call that names a cluster against the cluster's ARN, never sets the condition key
# ecs:cluster, and checks Insights calls against "*" unless they name exactly one log group by `logGroupName`.
# A role that is right on AWS would be refused. What counts on AWS is in the Service Authorization Reference.


def ecs_resource(action, data, region, account):
    prefix = f"arn:aws:ecs:{region}:{account}:"
    cluster = short(data.get("cluster"))
    if action in ("DescribeServices", "UpdateService", "DeleteService"):
        service = (data.get("services") or [data.get("service")])[0]
        return f"{prefix}service/{cluster}/{short(service)}"
    if action in ("DescribeTasks", "StopTask"):
        task = (data.get("tasks") or [data.get("task")])[0]
        return f"{prefix}task/{cluster}/{short(task)}"
    if action == "RunTask":
        definition = short(data.get("taskDefinition"))
        if ":" not in definition:
            definition += f":{ecs._task_def_latest.get(definition, 1)}"
        return f"{prefix}task-definition/{definition}"
    if action == "ListTasks":
        return "*"
    return None


def logs_resource(action, data, region, account):
    if action == "GetQueryResults":
        data = cloudwatch_logs._queries.get(data.get("queryId")) or {}
    elif action != "StartQuery":
        return None
    groups = cloudwatch_logs._resolve_query_log_groups(data)
    return f"arn:aws:logs:{region}:{account}:log-group:{groups[0]}" if groups else None


def corrected_resource(original):
    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        arn = None
        if service == "ecs":
            arn = ecs_resource(action, fields(body), region, account_id)
        elif service == "logs":
            arn = logs_resource(action, fields(body), region, account_id)
        return arn or original(service, method, path, headers, body, query_params, region, account_id)

    return extract_resource_arn


# RunTask hands roles over to the containers. AWS asks for iam:PassRole on each of them, MiniStack does not. It gathers
# the context of a call and judges the call without a pause in between.
handed_over = {"roles": [], "refused": None}


def roles_of_run(data):
    definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", ""))) or {}
    overrides = data.get("overrides") or {}
    roles = [overrides.get(field) or definition.get(field) for field in ("executionRoleArn", "taskRoleArn")]
    return [role for role in roles if role]


def corrected_judgement(original):
    def enforce(access_key_id, iam_action, service, region, **rest):
        denied = original(access_key_id, iam_action, service, region, **rest)
        handed_over["refused"] = None
        if iam_action == "ecs:RunTask" and not denied:
            context = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            for role in handed_over["roles"]:
                denied = original(
                    access_key_id, "iam:PassRole", service, region, resource_arn=role, service_context=context
                )
                if denied:
                    handed_over["refused"] = role
                    break
        return denied

    return enforce


def corrected_context(original):
    def request_tag_context(service, iam_action, body, query_params):
        context = dict(original(service, iam_action, body, query_params) or {})
        if service == "ecs":
            cluster = fields(body).get("cluster") or "default"
            if not cluster.startswith("arn:"):
                cluster = f"arn:aws:ecs:{get_region()}:{get_account_id()}:cluster/{cluster}"
            context["ecs:cluster"] = cluster
        handed_over["roles"] = roles_of_run(fields(body)) if iam_action == "ecs:RunTask" else []
        return context

    return request_tag_context


def corrected_denial(original):
    """AWS names the resource in a denial; MiniStack does so for some services only."""

    def access_denied_response(service, action, principal_arn, request_id, **rest):
        if action == "ecs:RunTask" and handed_over["refused"]:
            action, rest["resource_arn"] = "iam:PassRole", handed_over["refused"]
        if service in ("ecs", "dynamodb", "sns") and not rest.get("message") and not rest.get("error_code"):
            rest["message"] = iam_actions.identity_denial_message(
                action, principal_arn, rest.get("resource_arn", "*"), rest.get("explicit_deny", False)
            )
        return original(service, action, principal_arn, request_id, **rest)

    return access_denied_response


replace(iam_actions, "extract_resource_arn", corrected_resource)
replace(iam_actions, "request_tag_context", corrected_context)
replace(iam_evaluator, "enforce", corrected_judgement)
replace(iam_actions, "access_denied_response", corrected_denial)


# --- ECS -------------------------------------------------------------------------------------------------------------


def started_by_deployment(original):
    """A service's task carries the id of its deployment in `startedBy`; MiniStack writes the service's name."""

    def run_task(data):
        if data.get("_deploymentId"):
            data = {**data, "startedBy": data["_deploymentId"]}
        return original(data)

    return run_task


service_age = timedelta(minutes=float(os.environ.get("EMULATOR_SERVICE_AGE_MINUTES", "0")))


def age(things):
    """Move the beginning of things into the past."""
    if not service_age:
        return
    then = (datetime.now(timezone.utc) - service_age).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for thing in things:
        thing.update({field: then for field in ("createdAt", "updatedAt", "startedAt") if thing.get(field)})


def age_service(cluster, name):
    """Move the beginning of a service, of its deployment and of its tasks into the past."""
    service = ecs._services.get(f"{cluster}/{name}")
    if not service:
        return
    tasks = [
        task
        for task in ecs._tasks.values()
        if task.get("group") == f"service:{name}" and short(task.get("clusterArn")) == cluster
    ]
    age([service, *service["deployments"], *tasks])


def with_living_services(original):
    """A created service has run for a while, and a service starts a new task for one that was stopped from outside
    (MiniStack does so only with Docker)."""

    def dispatch(action, data):
        response = original(action, data)
        if action == "CreateService":
            age_service(short(data.get("cluster")), data.get("serviceName"))
        if action == "RunTask" and str(data.get("startedBy", "")).startswith("chronos-schedule/"):
            age([task for task in ecs._tasks.values() if task.get("startedBy") == data["startedBy"]])
        if action == "StopTask":
            cluster = short(data.get("cluster"))
            task = ecs._resolve_task(data.get("task", ""), cluster) or {}
            if task.get("group", "").startswith("service:"):
                ecs._reconcile_service_tasks(cluster, f"{cluster}/{task['group'].split(':', 1)[1]}")
        return response

    return dispatch


replace(ecs, "_run_task", started_by_deployment)
replace(ecs, "_dispatch_action", with_living_services)


# --- Logs ------------------------------------------------------------------------------------------------------------


def with_ingestion_time(original):
    """Insights knows when an event arrived; MiniStack leaves the field empty."""

    def build(**event):
        record = original(**event)
        now_ms = int(cloudwatch_logs.time.time() * 1000)
        record["@ingestionTime"] = cloudwatch_logs._format_insights_timestamp(now_ms)
        return record

    return build


replace(cloudwatch_logs, "_build_log_record", with_ingestion_time)


# --- Schedules -------------------------------------------------------------------------------------------------------

seconds_per_minute = float(os.environ.get("EMULATOR_SECONDS_PER_MINUTE", "60"))
scheduler._SCHEDULE_TICK_INTERVAL = min(scheduler._SCHEDULE_TICK_INTERVAL, max(0.5, seconds_per_minute / 4))
replace(
    eventbridge,
    "_parse_rate_seconds",
    lambda original: lambda expression: (
        None if original(expression) is None else original(expression) * seconds_per_minute / 60
    ),
)


if os.environ.get("EMULATOR_HTTP") == "1.1":
    Config.alpn_protocols = ["http/1.1"]

if __name__ == "__main__":
    app.main()
