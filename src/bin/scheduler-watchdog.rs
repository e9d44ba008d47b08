//! The Lambda function: start-up, and one pass for each event.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::config::{Config, Environment, Limits, Mistakes, load, origin};
use scheduler_watchdog::lambda::{self, Failure};
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::prelude::*;

/// What a pass leaves of the function's time for its answer and its metrics.
const RESERVE: SignedDuration = SignedDuration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let environment = Environment::of_process();
    let wanted = environment.get("WATCHDOG_LOG").map(str::parse::<Targets>);
    let usual = || Targets::new().with_default(LevelFilter::INFO);
    let log = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_timer(Rfc3339)
        .with_filter(wanted.and_then(Result::ok).unwrap_or_else(usual));
    tracing_subscriber::registry().with(log).init();
    let aws = Arc::new(Aws::of_function(&environment)?);
    // Beside what else a start does, and a runtime that waits for its first event.
    let beside = Arc::clone(&aws);
    std::thread::spawn(move || beside.prepare());
    // Until it can be used, each wake-up reads it again: what is wrong outside this process, such
    // as a parameter or a permission, can be mended while it lives.
    let config = OnceCell::new();
    if let Ok(usable) = configuration(&aws, &environment).await {
        config.get_or_init(|| usable);
    }
    let memory = lambda::Memory::default();
    let (aws, config, environment, memory) = (&aws, &config, &environment, &memory);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let read = match config.get() {
            Some(usable) => Ok(usable),
            None => {
                (configuration(aws, environment).await).map(|usable| config.get_or_init(|| usable))
            }
        };
        let config = match &read {
            Ok(config) => Ok(*config),
            Err(Failure::Configuration(mistakes)) => {
                tracing::error!(%mistakes, "the configuration cannot be used");
                Err(mistakes)
            }
            Err(failure) => {
                tracing::warn!(%failure);
                return Err(diagnostic(failure));
            }
        };
        let deadline = i64::try_from(event.context.deadline)
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let topic = match config {
            Ok(config) => config.alerts.topic_arn.as_deref(),
            Err(_) => environment.get("WATCHDOG_TOPIC_ARN"),
        };
        let world = aws.world(PassContext {
            topic,
            table: environment.get("WATCHDOG_TABLE"),
            deadline: deadline.map(|deadline| deadline - RESERVE),
            limits: (config.map_or_else(|_| Limits::default(), |config| config.limits))
                .of_one_among(lambda::shards(&event.payload)),
        });
        let function = environment
            .get("AWS_LAMBDA_FUNCTION_NAME")
            .unwrap_or_default();
        lambda::handle(&world, config, memory, &event.payload, function, |metric| {
            println!("{metric}")
        })
        .await
        .map_err(|failure| diagnostic(&failure))
    }))
    .await
}

fn diagnostic(failure: &Failure) -> Diagnostic {
    Diagnostic {
        error_type: failure.kind().to_owned(),
        error_message: failure.to_string(),
    }
}

async fn configuration(aws: &Aws, environment: &Environment) -> Result<Config, Failure> {
    let origin = origin(None, environment, |file| file.exists());
    let origin = aws.fetch(origin).await.map_err(|error| {
        if error.retry_helps() {
            Failure::Unread(error)
        } else {
            Failure::Configuration(Mistakes::at("WATCHDOG_CONFIG", error))
        }
    })?;
    load(&origin, environment).map_err(Failure::Configuration)
}

/// RFC 3339 times: Lambda takes a line without one for INFO.
struct Rfc3339;

impl FormatTime for Rfc3339 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the time of a log line decides nothing"
    )]
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", Timestamp::now())
    }
}
