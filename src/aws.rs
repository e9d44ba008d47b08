//! The world of AWS: CloudWatch Logs Insights, ECS, SNS, DynamoDB, and one parameter of SSM.
//!
//! [`Aws`] lives as long as the process; its clients are built when they are first needed and
//! keep their connections, so a healthy pass builds and calls DynamoDB's and Logs' alone.
//! [`AwsWorld`] lives for one pass. This is the only file that reads a clock.

mod connect;
mod ecs;
mod insights;
mod obstacle;
mod sns;
mod ssm;
mod store;
#[cfg(test)]
mod testing;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{Ecs, Endpoint, Environment, Limits, Scheduler};
use crate::health::Health;
use crate::http::Http;
use crate::message::Message;
use crate::plan::Remediation;
use crate::snapshot::{CallError, LogWindow, Observed, Obstacle, Probe, Readers, ServiceFacts};
use crate::state::State;
use crate::world::{Look, StoreError, Version, World};

#[doc(hidden)]
pub use insights::events_of_rows;

/// A connection within the region takes milliseconds; two seconds mean that there is no way.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One attempt. The APIs that are called here answer within a second, also at their 99th
/// percentile; after five, another connection is the better bet.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// One call with its retries: three attempts, or fewer where the back-off between them eats
/// up the time. One call that hangs must not use up a pass of 120 s.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// One call that changes ECS and is sent once only: longer than a usual attempt, because after
/// a time-out nobody knows whether it was done.
const SINGLE_SHOT_TIMEOUT: Duration = Duration::from_secs(12);

/// Attempts at a call, the first one included (the SDK's standard mode: only what is worth a
/// retry is retried, with a jittered back-off).
const ATTEMPTS: u32 = 3;

/// What a first look at the log goes back, so that a look without memory can say of a
/// scheduler that it was never seen.
const NO_MEMORY: SignedDuration = SignedDuration::from_mins(30);

/// DynamoDB answers within milliseconds. Who has waited for a second without any answer goes on with
/// the states that are there.
const STATES_ARE_LATE: Duration = Duration::from_secs(1);

/// A query takes seconds. Whose look takes longer counts as it fared when the pass began.
const LOOKS_ARE_LATE: Duration = Duration::from_secs(10);

/// The AWS side of the process: configuration, clients, and what all passes share.
#[derive(Debug)]
pub struct Aws {
    config: SdkConfig,
    region: String,
    logs: OnceLock<aws_sdk_cloudwatchlogs::Client>,
    ecs: OnceLock<aws_sdk_ecs::Client>,
    sns: OnceLock<aws_sdk_sns::Client>,
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    ssm: OnceLock<aws_sdk_ssm::Client>,
    http: Http,
    /// Shared by all passes of the process, because AWS counts per account.
    gate: OnceLock<insights::Gate>,
    /// Places for calls to DynamoDB: each may need a connection of its own.
    store_calls: Semaphore,
}

/// Calls to DynamoDB at once. A thousand a second fit through so many at 64 ms each, and a function may
/// have 1,024 files and connections open.
const STORE_CALLS: usize = 64;

impl Aws {
    /// Takes region, credentials and endpoints from the variables that Lambda sets, and users beside
    /// them. Calls no service.
    ///
    /// # Errors
    /// No region is configured.
    pub fn of_function(environment: &Environment) -> Result<Self, CallError> {
        Self::new(connect::of_function(environment))
    }

    /// Finds region, credentials and endpoint where the AWS tools find them: environment
    /// (`AWS_ENDPOINT_URL` included), profile, container, instance. Calls no service.
    ///
    /// # Errors
    /// No region is configured.
    pub async fn load() -> Result<Self, CallError> {
        Self::new(aws_config::load_defaults(BehaviorVersion::latest()).await)
    }

    /// The same with a configuration that is at hand. Timeouts and retries are set here,
    /// whatever it says.
    ///
    /// # Errors
    /// It has no region.
    pub fn new(config: SdkConfig) -> Result<Self, CallError> {
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(CallError::new(
                Obstacle::Refused,
                "no AWS region is configured: set AWS_REGION, or a region in the AWS profile",
            ));
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let http = config.http_client();
        let mut config = (config.into_builder())
            .http_client(http.unwrap_or_else(connect::http_client))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        // So that CloudTrail tells the watchdog's calls from others of the same role.
        config.set_app_name(AppName::new("scheduler-watchdog").ok());
        Ok(Self {
            config: config.build(),
            region,
            logs: OnceLock::new(),
            ecs: OnceLock::new(),
            sns: OnceLock::new(),
            dynamodb: OnceLock::new(),
            ssm: OnceLock::new(),
            http: Http::default(),
            gate: OnceLock::new(),
            store_calls: Semaphore::new(STORE_CALLS),
        })
    }

    /// The region, such as `ap-northeast-1`.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Makes the clients that every pass needs. To read the system's certificates for the first of them
    /// takes a tenth of the processor time of a start with its first pass.
    pub fn prepare(&self) {
        self.dynamodb();
        self.logs();
    }

    /// The world of one pass.
    ///
    /// The limits of the first pass hold for the process: they are shared by all its passes,
    /// and the configuration does not change while it lives.
    pub fn world<'a>(&'a self, pass: PassContext<'a>) -> AwsWorld<'a> {
        let now = Instant::now();
        let left = (pass.deadline).map(|deadline| {
            Duration::try_from(deadline.duration_since(clock())).unwrap_or(Duration::ZERO)
        });
        AwsWorld {
            aws: self,
            pass,
            looks_end: left.map(|left| now + left - (left / 3).min(LOOK_RESERVE)),
            acts_end: left.map(|left| now + left - (left / 10).min(ACT_RESERVE)),
        }
    }

    fn logs(&self) -> &aws_sdk_cloudwatchlogs::Client {
        (self.logs).get_or_init(|| aws_sdk_cloudwatchlogs::Client::new(&self.config))
    }

    fn ecs(&self) -> &aws_sdk_ecs::Client {
        (self.ecs).get_or_init(|| aws_sdk_ecs::Client::new(&self.config))
    }

    fn sns(&self) -> &aws_sdk_sns::Client {
        (self.sns).get_or_init(|| aws_sdk_sns::Client::new(&self.config))
    }

    fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        (self.dynamodb).get_or_init(|| aws_sdk_dynamodb::Client::new(&self.config))
    }

    fn ssm(&self) -> &aws_sdk_ssm::Client {
        (self.ssm).get_or_init(|| aws_sdk_ssm::Client::new(&self.config))
    }
}

/// What a pass brings with it.
#[derive(Clone, Copy, Debug)]
pub struct PassContext<'a> {
    /// The SNS topic's ARN. Without it nothing can be published.
    pub topic: Option<&'a str>,
    /// The DynamoDB table's name. Without it nothing is remembered: every scheduler is judged by
    /// what can be seen now, and a write is refused, so that nothing can be claimed either.
    pub table: Option<&'a str>,
    /// When the pass must have ended: the Lambda function's own deadline.
    pub deadline: Option<Timestamp>,
    /// How hard the watchdog may lean on AWS.
    pub limits: Limits,
}

/// What looks (Logs, ECS, the health endpoint) leave of a pass: 20 s, or a third of a short one,
/// for the claim, the messages, the restart and the settling.
const LOOK_RESERVE: Duration = Duration::from_secs(20);

/// What acts (SNS, restarts, the ping) leave of a pass: 5 s, or a tenth of a short one, to settle.
const ACT_RESERVE: Duration = Duration::from_secs(5);

/// AWS during one pass.
#[derive(Debug)]
pub struct AwsWorld<'a> {
    aws: &'a Aws,
    pass: PassContext<'a>,
    /// When a look that has no answer yet is given up.
    looks_end: Option<Instant>,
    /// When an act that has no answer yet is given up.
    acts_end: Option<Instant>,
}

impl AwsWorld<'_> {
    /// The bytes that came into log groups in a span. Scans them all.
    ///
    /// # Errors
    /// The query gave no answer.
    pub async fn volume(
        &self,
        groups: &[String],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<u64, CallError> {
        insights::volume(self, groups, from, until).await
    }

    fn gate(&self) -> &insights::Gate {
        (self.aws.gate).get_or_init(|| insights::Gate::new(self.pass.limits))
    }
}

// The future of one call of the SDK's takes more than 5 KB, and futures are copied when they are handed on:
// each is boxed where it begins, here or in `within`.
impl World for AwsWorld<'_> {
    fn now(&self) -> Timestamp {
        clock()
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.pass.deadline
    }

    fn region(&self) -> &str {
        &self.aws.region
    }

    async fn load(&self, scheduler: &str) -> Result<(State, Version), StoreError> {
        match self.pass.table {
            Some(table) => {
                // The semaphore is never closed.
                let _place = self.aws.store_calls.acquire().await.ok();
                Box::pin(store::load(self.aws, table, scheduler)).await
            }
            // A look without memory judges the half hour that it can see.
            None => {
                let state = State {
                    installed_at: Some(clock() - NO_MEMORY),
                    ..State::default()
                };
                Ok((state, 0))
            }
        }
    }

    async fn save(
        &self,
        scheduler: &str,
        state: &State,
        version: Version,
    ) -> Result<Version, StoreError> {
        match self.pass.table {
            Some(table) => {
                let _place = self.aws.store_calls.acquire().await.ok();
                let save = store::save(self.aws, table, scheduler, state, version, clock());
                Box::pin(save).await
            }
            None => Err(StoreError::Call(CallError::new(
                Obstacle::Refused,
                "no table for the state is configured: set WATCHDOG_TABLE",
            ))),
        }
    }

    async fn log(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LogWindow> {
        let look = Look {
            scheduler,
            from,
            until,
        };
        let seen = self.logs(&[look]).await.pop().flatten();
        seen.unwrap_or_else(|| {
            let why = "no time was left in this pass for the log query: the next one tries again";
            Observed::Unknown(CallError::new(Obstacle::TimedOut, why))
        })
    }

    async fn logs(&self, looks: &[Look<'_>]) -> Vec<Option<Observed<LogWindow>>> {
        let seen = Box::pin(insights::logs(self, looks)).await;
        seen.into_iter().map(|seen| seen.map(observed)).collect()
    }

    async fn states_are_late(&self) {
        tokio::time::sleep(STATES_ARE_LATE).await;
    }

    async fn looks_are_late(&self) {
        tokio::time::sleep(LOOKS_ARE_LATE).await;
    }

    async fn probe(
        &self,
        scheduler: &Scheduler,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Probe> {
        observed(Box::pin(insights::probe(self, scheduler, from, until)).await)
    }

    async fn service(&self, ecs: &Ecs) -> Option<Observed<ServiceFacts>> {
        let facts = ecs::service(self.aws, ecs);
        Some(observed(
            within(self.looks_end, "the look at ECS", facts).await,
        ))
    }

    async fn health(&self, scheduler: &Scheduler) -> Option<Observed<Health>> {
        let endpoint = scheduler.health.as_ref()?;
        let health = self.aws.http.health(endpoint, &scheduler.timezone);
        let what = "the look at the health endpoint";
        Some(observed(within(self.looks_end, what, health).await))
    }

    async fn readers(&self) -> Option<Observed<Readers>> {
        let readers = sns::readers(self.aws, self.pass.topic?);
        Some(observed(
            within(self.looks_end, "the look at the subscriptions", readers).await,
        ))
    }

    async fn publish(&self, message: &Message) -> Result<(), CallError> {
        let Some(topic) = self.pass.topic else {
            return Err(CallError::new(
                Obstacle::Refused,
                "no alert topic is configured: set `topic_arn` in [alerts], or WATCHDOG_TOPIC_ARN",
            ));
        };
        let publish = sns::publish(self.aws, topic, message);
        within(self.acts_end, "sns:Publish", publish).await
    }

    async fn restart(
        &self,
        scheduler: &Scheduler,
        remediation: &Remediation,
    ) -> Result<Option<String>, CallError> {
        let restart = ecs::restart(self.aws, scheduler, remediation);
        within(self.acts_end, remediation.cure.id(), restart).await
    }

    async fn ping(&self, endpoint: &Endpoint) -> Result<(), CallError> {
        let ping = self.aws.http.ping(endpoint);
        within(self.acts_end, "the ping", ping).await
    }
}

/// The only look at a clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the rim is where time comes from; everything inside is given `now`"
)]
fn clock() -> Timestamp {
    Timestamp::now()
}

fn observed<T>(result: Result<T, CallError>) -> Observed<T> {
    match result {
        Ok(value) => Observed::Known(value),
        Err(error) => Observed::Unknown(error),
    }
}

/// Gives something up when its part of the pass is over, and does not even begin it after that.
fn within<T>(
    end: Option<Instant>,
    what: &str,
    call: impl Future<Output = Result<T, CallError>>,
) -> impl Future<Output = Result<T, CallError>> {
    let call = Box::pin(call);
    async move {
        let Some(end) = end else {
            return call.await;
        };
        if end <= Instant::now() {
            let why = format!("no time was left in this pass for {what}: the next one tries again");
            return Err(CallError::new(Obstacle::TimedOut, why));
        }
        (tokio::time::timeout_at(end, call).await).unwrap_or_else(|_| {
            let why =
                format!("{what} did not end before the pass had to: the next one tries again");
            Err(CallError::new(Obstacle::TimedOut, why))
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
    use aws_smithy_mocks::mock;

    use super::*;

    const LIMITS: Limits = Limits {
        running_queries: 20,
        start_queries_per_second: 5,
    };

    #[test]
    fn a_region_is_needed() {
        let error = Aws::new(SdkConfig::builder().build()).unwrap_err();
        assert_eq!(error.kind, Obstacle::Refused);
        assert!(error.detail.contains("AWS_REGION"), "{error}");
    }

    #[tokio::test]
    async fn a_client_is_built_when_it_is_first_needed() {
        let aws = testing::aws();
        let rule = mock!(aws_sdk_dynamodb::Client::get_item)
            .then_output(|| GetItemOutput::builder().build());
        aws.dynamodb.set(testing::dynamodb(&[&rule])).unwrap();
        let world = aws.world(PassContext {
            topic: Some("arn:aws:sns:ap-northeast-1:123456789012:alerts"),
            table: Some("state"),
            deadline: None,
            limits: LIMITS,
        });
        assert_eq!(world.load("app").await, Ok((State::default(), 0)));
        assert_eq!(rule.num_calls(), 1);
        assert!(aws.logs.get().is_none() && aws.ecs.get().is_none());
        assert!(aws.sns.get().is_none() && aws.ssm.get().is_none());
    }

    #[tokio::test]
    async fn what_is_not_configured_is_not_called() {
        let aws = testing::aws();
        let world = aws.world(PassContext {
            topic: None,
            table: None,
            deadline: None,
            limits: LIMITS,
        });
        let (state, version) = world.load("app").await.unwrap();
        assert!(state.installed_at.is_some() && version == 0);
        let saved = world.save("app", &State::default(), 0).await;
        assert!(
            matches!(&saved, Err(StoreError::Call(error)) if error.kind == Obstacle::Refused),
            "{saved:?}"
        );
        assert!(aws.dynamodb.get().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_with_its_part_of_the_pass() {
        let never = || std::future::pending::<Result<(), CallError>>();
        let start = Instant::now();
        let end = start + Duration::from_secs(7);
        let error = within(Some(end), "it", never()).await.unwrap_err();
        assert_eq!(
            (error.kind, start.elapsed().as_secs()),
            (Obstacle::TimedOut, 7)
        );
        // Nothing is begun after that.
        let begun = within(Some(end), "it", async { Ok(()) }).await;
        assert_eq!(begun.map_err(|error| error.kind), Err(Obstacle::TimedOut));
        assert_eq!(within(None, "it", async { Ok(()) }).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn acts_may_take_longer_than_looks() {
        let aws = testing::aws();
        for (left, looks, acts) in [(120, 100, 115), (30, 20, 27), (0, 0, 0)] {
            let world = aws.world(PassContext {
                topic: None,
                table: None,
                deadline: Some(clock() + jiff::SignedDuration::from_secs(left)),
                limits: LIMITS,
            });
            let seconds =
                |end: Option<Instant>| (end.unwrap() - Instant::now()).as_secs_f64().round() as i64;
            let ends = (seconds(world.looks_end), seconds(world.acts_end));
            assert_eq!(ends, (looks, acts));
        }
        let late = aws.world(PassContext {
            topic: None,
            table: None,
            deadline: Some(Timestamp::UNIX_EPOCH),
            limits: LIMITS,
        });
        assert_eq!(late.looks_end, Some(Instant::now()));
    }
}
