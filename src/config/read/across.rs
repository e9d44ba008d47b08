//! Mistakes that no table can see by itself. They are looked for in the document as it stands, so
//! that a mistake inside a table hides none of these.

use std::collections::BTreeSet;

use toml_span::{Error, Value};

use super::{MOST_JOBS, custom};

/// All of them, in no order.
pub(super) fn mistakes(document: &Value<'_>) -> Vec<Error> {
    let schedulers = tables(document, "scheduler");
    let mut found = twice(schedulers, str::to_owned, |name| {
        format!("two schedulers are named `{name}`")
    });
    found.extend(shared_services(schedulers));
    for scheduler in schedulers {
        found.extend(of_jobs(scheduler));
        found.extend(misfits(scheduler));
    }
    found
}

/// The tables of an array; none where it is no array.
fn tables<'a, 'de>(parent: &'a Value<'de>, key: &str) -> &'a [Value<'de>] {
    let tables = parent.as_table().and_then(|table| table.get(key));
    tables.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Names that stand there a second time.
fn twice(
    tables: &[Value<'_>],
    normal: impl Fn(&str) -> String,
    say: impl Fn(&str) -> String,
) -> Vec<Error> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for name in tables.iter().filter_map(|table| table.pointer("/name")) {
        let normal = name.as_str().map(|name| normal(name.trim()));
        if let Some(normal) = normal
            && !known.insert(normal.clone())
        {
            found.push(custom(name.span, say(&normal)));
        }
    }
    found
}

fn of_jobs(scheduler: &Value<'_>) -> Vec<Error> {
    let jobs = tables(scheduler, "job");
    let mut found = twice(jobs, crate::line::job_name, |name| {
        format!(
            "two jobs are named `{name}`; one job can have several times: cron = [\"…\", \"…\"]"
        )
    });
    let nowhere = scheduler.pointer("/environment").is_none();
    let elsewhere = (jobs.iter())
        .filter_map(|job| job.pointer("/environments"))
        .filter(|given| given.as_array().is_some_and(|given| !given.is_empty()));
    found.extend(elsewhere.filter(|_| nowhere).map(|environments| {
        let message = "`environments` needs the scheduler's own `environment`";
        custom(environments.span, message)
    }));
    found.extend(jobs.get(MOST_JOBS).map(|job| {
        let message = format!(
            "a scheduler has at most {MOST_JOBS} jobs: describe it as two, with the same log"
        );
        custom(job.span, message)
    }));
    found
}

/// Restarts of a service that another scheduler restarts already: they would stack, and none knows the
/// other's running jobs.
fn shared_services(schedulers: &[Value<'_>]) -> Vec<Error> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for scheduler in schedulers {
        let cures = ["/remediation/action", "/remediation/replica_action"];
        let text = |path: &str| scheduler.pointer(path)?.as_str();
        let on = |path: &&str| text(path).is_some_and(|cure| cure != "none");
        let (Some(cure), Some(cluster), Some(service)) = (
            cures.iter().find(|path| on(path)),
            text("/ecs/cluster"),
            text("/ecs/service"),
        ) else {
            continue;
        };
        if !known.insert((cluster, service)) {
            let message = format!(
                "another scheduler restarts the service `{service}` already: leave it to one of them"
            );
            found.extend(
                scheduler
                    .pointer(cure)
                    .map(|cure| custom(cure.span, message)),
            );
        }
    }
    found
}

/// Cures that the scheduler's ECS set-up cannot give.
fn misfits(scheduler: &Value<'_>) -> Vec<Error> {
    let cures = [
        ("/remediation/action", "force-new-deployment", "service"),
        ("/remediation/action", "run-task", "task_definition"),
        ("/remediation/replica_action", "stop-task", "service"),
    ];
    let misfit = |(path, cure, needed): (&str, &str, &str)| {
        let given = scheduler
            .pointer(path)
            .filter(|given| given.as_str() == Some(cure))?;
        let fits = scheduler.pointer(&format!("/ecs/{needed}")).is_some();
        let key = path.trim_start_matches("/remediation/");
        let message = format!("{key} = \"{cure}\" needs [scheduler.ecs] with a {needed}");
        (!fits).then(|| custom(given.span, message))
    };
    cures.into_iter().filter_map(misfit).collect()
}
