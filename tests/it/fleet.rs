//! Many schedulers in one pass, against an account that enforces AWS's limits, on tokio's paused
//! clock: what is waited for takes no time, and every run is the same.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_sdk_dynamodb::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::aws::{Aws, PassContext};
use scheduler_watchdog::config::{Config, Limits};
use scheduler_watchdog::pass::{self, Report, Request};
use scheduler_watchdog::snapshot::{LogWindow, Observed, Obstacle};
use scheduler_watchdog::world::{Look, World as _};
use tokio::time::Instant;

use crate::limits::{Account, Quotas};

/// All that AWS allows.
const ALL: Limits = Limits {
    running_queries: 100,
    start_queries_per_second: 10,
};

/// An account on tokio's clock, in place of AWS's endpoints.
#[derive(Clone)]
struct Site {
    account: Arc<Mutex<Account>>,
    began: Instant,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Site")
    }
}

impl HttpConnector for Site {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target");
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        let now = self.began.elapsed();
        let Some(reply) = self.account().answer(now, target, &body) else {
            return HttpConnectorFuture::new(std::future::pending());
        };
        let status = reply.status.try_into().unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, reply.body.into())))
    }
}

impl HttpClient for Site {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Site {
    /// An account in which a query takes that long.
    fn new(takes: Duration) -> Self {
        Self {
            account: Arc::new(Mutex::new(Account::new(Quotas::default(), takes))),
            began: Instant::now(),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }

    fn aws(&self) -> Aws {
        let credentials = Credentials::new("id", "secret", None, None, "tests");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("ap-northeast-1"))
            .endpoint_url("http://127.0.0.1:9")
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(SharedHttpClient::new(self.clone()))
            .build();
        Aws::new(config).unwrap()
    }

    /// One pass, and how long it took.
    async fn pass(&self, aws: &Aws, config: &Config) -> (Report, Duration) {
        let began = Instant::now();
        let world = aws.world(context());
        let report = pass::run(&world, config, &Request::default()).await;
        (report, began.elapsed())
    }
}

/// A pass that has all the time that it wants: the world of AWS has a real clock beside the paused one,
/// and on a slow machine it goes on.
fn context() -> PassContext<'static> {
    PassContext {
        topic: Some("arn:aws:sns:ap-northeast-1:123456789012:alerts"),
        table: Some("state"),
        deadline: Some(now() + SignedDuration::from_hours(1)),
        limits: ALL,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the world of AWS has a real clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// So many schedulers, each with a log group of its own, or all with the same one.
fn fleet(site: &Site, count: usize, group: impl Fn(usize) -> String) -> Config {
    let mut text = String::new();
    for n in 0..count {
        let (name, group) = (format!("app-{n:04}"), group(n));
        site.account().print(&group, &format!("{name}/app/0123"));
        writeln!(
            text,
            "[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"{group}\"]\n\
             log_stream_prefix = \"{name}/\"\nstale_after = \"5m\""
        )
        .unwrap();
    }
    Config::parse(&text, "fleet").unwrap()
}

fn own(n: usize) -> String {
    format!("/ecs/app-{n:04}")
}

fn in_common(_: usize) -> String {
    "/ecs/apps".to_owned()
}

/// What the limits themselves force: so many calls of each kind, ten a second, and the time of the
/// last query.
fn forced(count: usize, takes: Duration) -> Duration {
    Duration::from_millis(100) * u32::try_from(count - 1).unwrap() + takes
}

#[tokio::test(start_paused = true)]
async fn a_healthy_pass_is_one_read_one_query_its_polls_and_one_write() {
    for (millis, polls) in [(0, 1), (100, 2), (1_000, 4), (2_000, 6), (5_000, 8)] {
        let site = Site::new(Duration::from_millis(millis));
        let (config, aws) = (fleet(&site, 1, own), site.aws());
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(300)).await;
            site.account().calls.clear();
            let (report, took) = site.pass(&aws, &config).await;
            assert!(report.is_complete(), "{:?}", report.schedulers);
            let calls: Vec<String> = (site.account().calls.iter())
                .map(|call| call.action.clone())
                .collect();
            let mut expected = vec!["GetItem", "StartQuery"];
            expected.extend(std::iter::repeat_n("GetQueryResults", polls));
            expected.push("PutItem");
            assert_eq!(calls, expected, "{millis} ms");
            let takes = Duration::from_millis(millis);
            let late = took - takes;
            let allowed = (takes / 4).max(Duration::from_millis(300));
            assert!(late <= allowed, "{millis} ms: {late:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_schedulers_take_the_time_that_the_limits_force_and_are_never_refused() {
    for (count, millis) in [
        (1, 2_000),
        (10, 500),
        (10, 2_000),
        (100, 500),
        (100, 2_000),
        (100, 5_000),
        (300, 2_000),
    ] {
        let takes = Duration::from_millis(millis);
        let site = Site::new(takes);
        let (config, aws) = (fleet(&site, count, own), site.aws());
        let (report, took) = site.pass(&aws, &config).await;
        assert!(report.is_complete());
        let forced = forced(count, takes);
        let most = forced.mul_f64(1.2).max(forced + Duration::from_millis(300));
        assert!(took <= most, "{count} at {takes:?}: {took:?} of {forced:?}");
        let account = site.account();
        assert_eq!(account.throttled(), 0);
        assert_eq!(account.count("StartQuery"), count);
        // What a month costs is reckoned with 4 KB each.
        assert!(account.state_bytes() <= count * 4_000);
        let polls = account.count("GetQueryResults");
        // Until the first one ends nobody knows how long queries take, and there are turns to spare.
        let before_the_first_end = usize::try_from(millis / 100).unwrap();
        let most = count + count / 5 + before_the_first_end;
        assert!(polls <= most, "{count} at {takes:?}: {polls} polls");
        assert_eq!(
            (account.count("GetItem"), account.count("PutItem")),
            (count, count)
        );
    }
}

/// Its query runs on, its state does not come, or its log group is not there.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_or_fails_delays_no_other() {
    let takes = Duration::from_secs(2);
    let last_write = |site: &Site| {
        let account = site.account();
        let writes = account.calls.iter().filter(|c| c.action == "PutItem");
        let others = writes.filter(|call| call.of != "app-0003");
        others.map(|call| call.at).max().unwrap()
    };
    let undisturbed = {
        let site = Site::new(takes);
        let (config, aws) = (fleet(&site, 50, own), site.aws());
        let _ = site.pass(&aws, &config).await;
        last_write(&site)
    };
    for trouble in ["query", "state", "group"] {
        let site = Site::new(takes);
        let mut config = fleet(&site, 50, own);
        match trouble {
            "query" => {
                let slow = (own(3), Duration::from_secs(3_600));
                site.account().slow.extend([slow]);
            }
            "state" => {
                site.account().lost.insert("app-0003".to_owned());
            }
            _ => config.schedulers[3].log_groups = vec!["/ecs/nope".to_owned()],
        }
        let aws = site.aws();
        let (report, _) = site.pass(&aws, &config).await;
        for scheduler in &report.schedulers {
            let is_well = scheduler.unseen.is_empty() && scheduler.problems.is_empty();
            assert_eq!(is_well, scheduler.name != "app-0003", "{scheduler:?}");
        }
        let late = last_write(&site).saturating_sub(undisturbed);
        // A state is waited for for a second, and a query that hangs is asked now and then.
        let most = match trouble {
            "state" => Duration::from_millis(1_100),
            "query" => Duration::from_millis(1_000),
            _ => Duration::ZERO,
        };
        assert!(late <= most, "{trouble}: {late:?}");
    }
}

/// What a look at a scheduler alone shows, and the same look together with others.
async fn alone_and_together(site: &Site, config: &Config) -> (Vec<LogWindow>, Vec<LogWindow>) {
    let aws = site.aws();
    let world = aws.world(context());
    let until: Timestamp = "2026-11-25T00:10:30Z".parse().unwrap();
    let looks: Vec<Look<'_>> = (config.schedulers.iter().zip(5..))
        .map(|(scheduler, minutes)| Look {
            scheduler,
            from: until - SignedDuration::from_mins(minutes),
            until,
        })
        .collect();
    let mut alone = Vec::new();
    for look in &looks {
        match world.log(look.scheduler, look.from, look.until).await {
            Observed::Known(window) => alone.push(window),
            Observed::Unknown(error) => panic!("{error}"),
        }
    }
    site.account().calls.clear();
    let together = (world.logs(&looks).await.into_iter())
        .map(|seen| seen.unwrap().known().unwrap().clone())
        .collect();
    (alone, together)
}

fn without_bytes(windows: &[LogWindow]) -> Vec<LogWindow> {
    let without = |window: &LogWindow| LogWindow {
        scanned_bytes: None,
        ..window.clone()
    };
    windows.iter().map(without).collect()
}

fn bytes(windows: &[LogWindow]) -> u64 {
    windows
        .iter()
        .filter_map(|window| window.scanned_bytes)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn a_shared_query_shows_each_its_own_lines_and_scans_once() {
    let site = Site::new(Duration::from_secs(1));
    let config = fleet(&site, 8, in_common);
    let (alone, together) = alone_and_together(&site, &config).await;
    assert_eq!(site.account().count("StartQuery"), 1);
    assert_eq!(without_bytes(&together), without_bytes(&alone));
    assert!(alone.iter().all(|window| window.lines.len() >= 5));
    assert!(bytes(&together) * 4 < bytes(&alone));
}

#[tokio::test(start_paused = true)]
async fn where_a_shared_query_is_cut_each_asks_for_itself() {
    let site = Site::new(Duration::from_secs(1));
    let config = fleet(&site, 3, in_common);
    site.account().lines = 500;
    let (alone, together) = alone_and_together(&site, &config).await;
    assert_eq!(site.account().count("StartQuery"), 1 + 3);
    assert!(alone.iter().all(|window| !window.truncated));
    assert_eq!(without_bytes(&together), without_bytes(&alone));
}

/// A first look goes back far and is a scheduler's own; from then on they share.
#[tokio::test(start_paused = true)]
async fn schedulers_of_one_log_group_share_queries() {
    let site = Site::new(Duration::from_secs(2));
    let (config, aws) = (fleet(&site, 100, in_common), site.aws());
    let mut queries = Vec::new();
    for _ in 0..3 {
        site.account().calls.clear();
        let (report, _) = site.pass(&aws, &config).await;
        assert!(report.is_complete());
        assert!((report.schedulers.iter()).all(|s| s.plan.as_ref().unwrap().silent_for.is_some()));
        queries.push(site.account().count("StartQuery"));
    }
    assert_eq!(queries, [100, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_there_is_missing_for_all_who_share_it() {
    let site = Site::new(Duration::from_secs(1));
    let mut config = fleet(&site, 3, in_common);
    for scheduler in &mut config.schedulers {
        scheduler.log_groups = vec!["/ecs/nope".to_owned()];
    }
    let aws = site.aws();
    let world = aws.world(context());
    let until = now();
    let look = |scheduler| Look {
        scheduler,
        from: until - SignedDuration::from_mins(5),
        until,
    };
    let looks: Vec<Look<'_>> = config.schedulers.iter().map(look).collect();
    for seen in world.logs(&looks).await {
        let error = seen.unwrap().unknown().unwrap().clone();
        assert_eq!(error.kind, Obstacle::Missing, "{error}");
    }
    assert_eq!(site.account().count("StartQuery"), 1);
}

/// An hour of other lines, and the scheduler's own.
#[tokio::test(start_paused = true)]
async fn the_volume_of_a_log_group_is_what_a_query_on_all_of_it_scans() {
    let site = Site::new(Duration::from_secs(1));
    let config = fleet(&site, 1, own);
    let aws = site.aws();
    let world = aws.world(context());
    let until: Timestamp = "2026-11-25T00:59:59Z".parse().unwrap();
    let from = until - SignedDuration::from_secs(3_599);
    let groups = &config.schedulers[0].log_groups;
    let bytes = world.volume(groups, from, until).await.unwrap();
    assert!((60 * 4_000..70 * 4_000).contains(&bytes), "{bytes}");
    let calls = site.account().count("StartQuery");
    assert_eq!(calls, 1);
}
