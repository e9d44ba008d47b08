//! Queries through mocked answers, on paused time: waits take none.

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::get_query_results::GetQueryResultsOutput;
use aws_sdk_cloudwatchlogs::operation::get_query_results::builders::GetQueryResultsOutputBuilder;
use aws_sdk_cloudwatchlogs::operation::start_query::StartQueryOutput;
use aws_sdk_cloudwatchlogs::operation::stop_query::StopQueryOutput;
use aws_sdk_cloudwatchlogs::types::QueryStatistics;
use aws_smithy_http_client::test_util::NeverClient;
use aws_smithy_mocks::{Rule, mock};

use super::*;
use crate::aws::testing::{self, json_error};
use crate::aws::{Aws, PassContext};
use crate::config::{Config, Limits};
use crate::snapshot::Observed;
use crate::world::World;

fn aws(rules: &[&Rule]) -> Aws {
    let aws = testing::aws();
    aws.logs.set(testing::logs(rules)).unwrap();
    aws
}

fn world(aws: &Aws) -> AwsWorld<'_> {
    aws.world(PassContext {
        topic: None,
        table: None,
        deadline: None,
        limits: Limits {
            running_queries: 20,
            start_queries_per_second: 5,
        },
    })
}

fn scheduler(groups: &[&str], prefix: &str) -> Scheduler {
    let text = "[[scheduler]]\nname = \"app\"\nlog_groups = [\"/ecs/app\"]\n";
    let mut scheduler = Config::parse(text, "watchdog.toml")
        .unwrap()
        .schedulers
        .remove(0);
    scheduler.log_groups = groups.iter().map(|&group| group.to_owned()).collect();
    scheduler.log_stream_prefix = prefix.to_owned();
    scheduler
}

fn at(text: &str) -> Timestamp {
    format!("2024-05-19T{text}Z").parse().unwrap()
}

async fn read(aws: &Aws) -> Result<LogWindow, CallError> {
    let scheduler = scheduler(&["/ecs/app"], "app/");
    let seen = world(aws)
        .log(&scheduler, at("06:00:00"), at("06:10:00"))
        .await;
    match seen {
        Observed::Known(window) => Ok(window),
        Observed::Unknown(error) => Err(error),
    }
}

fn started() -> Rule {
    mock!(Client::start_query).then_output(|| StartQueryOutput::builder().query_id("q").build())
}

fn stopped() -> Rule {
    mock!(Client::stop_query)
        .match_requests(|stop| stop.query_id() == Some("q"))
        .then_output(|| StopQueryOutput::builder().success(true).build())
}

fn results(status: QueryStatus) -> GetQueryResultsOutputBuilder {
    GetQueryResultsOutput::builder().status(status)
}

fn row(time: &str, message: &str) -> Vec<ResultField> {
    let field = |name: &str, value: &str| ResultField::builder().field(name).value(value).build();
    vec![
        field("@timestamp", &format!("2024-05-19 {time}")),
        field("@ingestionTime", ""),
        field("@logStream", "app/app/1"),
        field("@message", message),
        field("@ptr", message),
    ]
}

fn complete() -> GetQueryResultsOutputBuilder {
    results(QueryStatus::Complete).results(row("06:09:00.000", "newest"))
}

/// GetQueryResults answers these statuses in turn, the last one for ever.
fn polled(statuses: &[QueryStatus]) -> Rule {
    let mut rule = mock!(Client::get_query_results).sequence();
    let (last, first) = statuses.split_last().unwrap();
    for status in first {
        let status = status.clone();
        // Partial rows, which are no answer.
        rule = rule.output(move || {
            results(status.clone())
                .results(row("06:01:00.000", "partial"))
                .build()
        });
    }
    let last = last.clone();
    rule.output(move || {
        results(last.clone())
            .results(row("06:09:00.000", "newest"))
            .build()
    })
    .repeatedly()
    .build()
}

#[tokio::test(start_paused = true)]
async fn a_query_asks_for_the_whole_span_and_is_read() {
    let start = mock!(Client::start_query)
        .match_requests(|ask| {
            ask.log_group_names() == ["/ecs/app"]
                && ask.log_group_identifiers().is_empty()
                && ask
                    .query_string()
                    .is_some_and(|q| q.contains(r"| filter @logStream like /^app\//"))
                && ask.limit().is_none()
        })
        .then_output(|| StartQueryOutput::builder().query_id("q").build());
    let poll = mock!(Client::get_query_results)
        .match_requests(|ask| ask.query_id() == Some("q"))
        .then_output(|| {
            complete()
                .results(row("06:08:00.000", "oldest"))
                .statistics(QueryStatistics::builder().bytes_scanned(1234.0).build())
                .build()
        });
    let window = read(&aws(&[&start, &poll])).await.unwrap();
    let texts: Vec<&str> = window.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["oldest", "newest"]);
    assert_eq!(
        (
            window.from,
            window.until,
            window.truncated,
            window.scanned_bytes,
            window.lag
        ),
        (at("06:00:00"), at("06:10:00"), false, Some(1234), None)
    );
}

#[test]
fn spans_are_rounded_outwards() {
    let epoch = at("06:00:00").as_second();
    assert_eq!(seconds(at("06:00:00"), at("06:00:05")), (epoch, epoch + 5));
    assert_eq!(
        seconds(at("06:00:00.999"), at("06:00:05.001")),
        (epoch, epoch + 6)
    );
    assert_eq!(
        seconds(at("06:00:00.5"), at("06:00:00.5")),
        (epoch, epoch + 1)
    );
    let before_1970 = Timestamp::from_millisecond(-1_500).unwrap();
    assert_eq!(seconds(before_1970, Timestamp::UNIX_EPOCH), (-2, 0));
}

#[tokio::test(start_paused = true)]
async fn arns_are_asked_for_as_identifiers() {
    let start = mock!(Client::start_query)
        .match_requests(|ask| {
            ask.log_group_names().is_empty()
                && ask.log_group_identifiers()
                    == [
                        "/ecs/app",
                        "arn:aws:logs:ap-northeast-1:1:log-group:/ecs/other",
                    ]
        })
        .then_output(|| StartQueryOutput::builder().query_id("q").build());
    let aws = aws(&[&start, &polled(&[QueryStatus::Complete])]);
    let groups = [
        "/ecs/app",
        "arn:aws:logs:ap-northeast-1:1:log-group:/ecs/other:*",
    ];
    let seen = world(&aws)
        .log(&scheduler(&groups, ""), at("06:00:00"), at("06:10:00"))
        .await;
    assert!(seen.known().is_some(), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn partial_rows_are_no_answer_and_statistics_may_be_missing() {
    let poll = polled(&[
        QueryStatus::Scheduled,
        QueryStatus::Running,
        QueryStatus::Running,
        QueryStatus::Complete,
    ]);
    let window = read(&aws(&[&started(), &poll])).await.unwrap();
    assert_eq!((window.lines.len(), window.scanned_bytes), (1, None));
    assert_eq!(window.lines[0].text, "newest");
    assert_eq!(poll.num_calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_ended_badly_is_unknown_and_not_stopped() {
    for (status, kind, said) in [
        (QueryStatus::Failed, Obstacle::Failed, "failed"),
        (QueryStatus::Cancelled, Obstacle::Failed, "was cancelled"),
        (QueryStatus::Timeout, Obstacle::TimedOut, "timed out"),
        (
            QueryStatus::UnknownValue,
            Obstacle::Failed,
            "ended with the status Unknown",
        ),
        (
            QueryStatus::from("Paused"),
            Obstacle::Failed,
            "ended with the status Paused",
        ),
    ] {
        let stop = stopped();
        let error = read(&aws(&[&started(), &polled(&[status]), &stop]))
            .await
            .unwrap_err();
        let detail =
            format!("the log query on log group `/ecs/app` {said}: the next pass tries again");
        assert_eq!((error, stop.num_calls()), (CallError::new(kind, detail), 0));
    }
    let without_status =
        mock!(Client::get_query_results).then_output(|| GetQueryResultsOutput::builder().build());
    let error = read(&aws(&[&started(), &without_status]))
        .await
        .unwrap_err();
    assert!(error.detail.contains("the status none"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_query_that_runs_on_is_stopped() {
    let (poll, stop) = (polled(&[QueryStatus::Running]), stopped());
    let start = Instant::now();
    let error = read(&aws(&[&started(), &poll, &stop])).await.unwrap_err();
    assert_eq!(error.kind, Obstacle::TimedOut, "{error}");
    assert_eq!((start.elapsed().as_secs(), stop.num_calls()), (60, 1));
    // Waits grow by a quarter each.
    assert_eq!(poll.num_calls(), 19);
}

#[tokio::test(start_paused = true)]
async fn a_look_leaves_the_rest_of_the_pass_its_time() {
    for (left, waited) in [(120, 60), (45, 30), (30, 20), (0, 0)] {
        let (start_query, stop) = (started(), stopped());
        let aws = aws(&[&start_query, &polled(&[QueryStatus::Running]), &stop]);
        let mut world = world(&aws);
        world.pass.deadline = Some(world.now() + SignedDuration::from_secs(left));
        let world = aws.world(world.pass);
        let start = Instant::now();
        let seen = world
            .log(
                &scheduler(&["/ecs/app"], ""),
                at("06:00:00"),
                at("06:10:00"),
            )
            .await;
        let Observed::Unknown(error) = seen else {
            panic!("the query runs on");
        };
        assert_eq!(error.kind, Obstacle::TimedOut, "{error}");
        // The real clock went on by a little between deadline and world.
        let late = start.elapsed().as_secs_f64();
        assert!(
            (waited as f64 - 1.0..=waited as f64).contains(&late),
            "{left}: {late}"
        );
        assert_eq!(start_query.num_calls(), usize::from(left > 0));
        assert_eq!(stop.num_calls(), usize::from(left > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_fails_is_not_the_end_of_the_query() {
    let poll = mock!(Client::get_query_results)
        .sequence()
        .http_status(400, json_error("ThrottlingException", "Rate exceeded"))
        .times(4)
        .http_status(500, None)
        .http_status(503, json_error("ServiceUnavailableException", "busy"))
        .output(|| complete().build())
        .build();
    let window = read(&aws(&[&started(), &poll])).await.unwrap();
    assert_eq!((window.lines.len(), poll.num_calls()), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_is_never_seen_to_end_says_why() {
    let poll = mock!(Client::get_query_results)
        .sequence()
        .http_status(400, json_error("ThrottlingException", "Rate exceeded"))
        .times(10_000)
        .build();
    let stop = stopped();
    let error = read(&aws(&[&started(), &poll, &stop])).await.unwrap_err();
    assert_eq!(
        (error.kind, stop.num_calls()),
        (Obstacle::Throttled, 1),
        "{error}"
    );
    assert!(
        error
            .detail
            .starts_with("logs:GetQueryResults on log group `/ecs/app` is throttled"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_no_retry_helps_ends_the_query() {
    let poll = mock!(Client::get_query_results)
        .sequence()
        .http_status(400, json_error("AccessDeniedException", "User: u is not authorized to perform: logs:GetQueryResults on resource: arn:aws:logs:ap-northeast-1:1:log-group:/ecs/app because no identity-based policy allows the logs:GetQueryResults action"))
        .build();
    let stop = stopped();
    let error = read(&aws(&[&started(), &poll, &stop])).await.unwrap_err();
    assert_eq!(
        (error.kind, stop.num_calls()),
        (Obstacle::Denied, 1),
        "{error}"
    );
    assert!(
        error
            .detail
            .starts_with("logs:GetQueryResults on arn:aws:logs:"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_rows_are_read_page_by_page_and_are_a_lower_bound() {
    let poll = mock!(Client::get_query_results).then_compute_output(|ask| {
        assert_eq!(ask.max_items(), Some(PAGE));
        let page: usize = ask.next_token().map_or(0, |token| token.parse().unwrap());
        let rows = (0..PAGE).map(|n| row("06:09:00.000", &format!("{page}-{n}")));
        results(QueryStatus::Complete)
            .set_results(Some(rows.collect()))
            .set_next_token((page < 9).then(|| (page + 1).to_string()))
            .build()
    });
    let window = read(&aws(&[&started(), &poll])).await.unwrap();
    assert_eq!((window.lines.len(), window.truncated), (MOST_ROWS, true));
}

#[tokio::test(start_paused = true)]
async fn a_second_page_is_part_of_the_answer() {
    let first = mock!(Client::get_query_results)
        .match_requests(|ask| ask.next_token().is_none())
        .then_output(|| complete().next_token("2").build());
    let second = mock!(Client::get_query_results)
        .match_requests(|ask| ask.next_token() == Some("2"))
        .then_output(|| {
            results(QueryStatus::Complete)
                .results(row("06:01:00.000", "oldest"))
                .build()
        });
    let window = read(&aws(&[&started(), &first, &second])).await.unwrap();
    assert_eq!((window.lines.len(), window.truncated), (2, false));
}

#[tokio::test(start_paused = true)]
async fn a_group_younger_than_the_span_is_empty() {
    let said = "Query's end date and time is either before the log groups creation time or exceeds the log groups log retention settings";
    let rule = || {
        mock!(Client::start_query)
            .sequence()
            .http_status(400, json_error("MalformedQueryException", said))
            .build()
    };
    let window = read(&aws(&[&rule()])).await.unwrap();
    assert_eq!(
        (window.lines.len(), window.from, window.truncated),
        (0, at("06:00:00"), false)
    );
    let aws = aws(&[&rule()]);
    let seen = world(&aws)
        .probe(
            &scheduler(&["/ecs/app"], ""),
            at("06:00:00"),
            at("06:10:00"),
        )
        .await;
    assert_eq!(seen, Observed::Known(Probe::default()));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_cannot_start_says_why() {
    let cases = [
        (
            "ResourceNotFoundException",
            "The specified log group does not exist: /ecs/other",
            Obstacle::Missing,
            1,
            "log group `/ecs/other` does not exist in ap-northeast-1: check `log_groups`",
        ),
        (
            "ResourceNotFoundException",
            "No such group",
            Obstacle::Missing,
            1,
            "one of the log groups `/ecs/app`, `/ecs/other` does not exist in ap-northeast-1: check `log_groups`",
        ),
        (
            "MalformedQueryException",
            "unexpected symbol found",
            Obstacle::Refused,
            1,
            "logs:StartQuery on one of the log groups `/ecs/app`, `/ecs/other` in ap-northeast-1 is refused (MalformedQueryException: unexpected symbol found): check `log_groups`",
        ),
        (
            "InvalidParameterException",
            "bad",
            Obstacle::Refused,
            1,
            "logs:StartQuery on one of the log groups `/ecs/app`, `/ecs/other` in ap-northeast-1 is refused (InvalidParameterException: bad): check `log_groups`",
        ),
        (
            "LimitExceededException",
            "too many queries",
            Obstacle::Throttled,
            3,
            "logs:StartQuery on one of the log groups `/ecs/app`, `/ecs/other` is throttled by AWS (LimitExceededException: too many queries): the next pass tries again",
        ),
        (
            "ThrottlingException",
            "Rate exceeded",
            Obstacle::Throttled,
            3,
            "logs:StartQuery on one of the log groups `/ecs/app`, `/ecs/other` is throttled by AWS (ThrottlingException: Rate exceeded): the next pass tries again",
        ),
        (
            "AccessDeniedException",
            "User: u is not authorized to perform: logs:StartQuery on resource: arn:aws:logs:ap-northeast-1:1:log-group:/ecs/app because no identity-based policy allows the logs:StartQuery action",
            Obstacle::Denied,
            1,
            "logs:StartQuery on arn:aws:logs:ap-northeast-1:1:log-group:/ecs/app is denied (no identity-based policy allows the logs:StartQuery action): allow logs:StartQuery to the watchdog's role",
        ),
    ];
    for (code, said, kind, calls, detail) in cases {
        let rule = mock!(Client::start_query)
            .sequence()
            .http_status(400, json_error(code, said))
            .times(3)
            .build();
        let aws = aws(&[&rule]);
        let groups = scheduler(&["/ecs/app", "/ecs/other"], "");
        let seen = world(&aws)
            .log(&groups, at("06:00:00"), at("06:10:00"))
            .await;
        assert_eq!(seen, Observed::Unknown(CallError::new(kind, detail)));
        assert_eq!(rule.num_calls(), calls, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_answers() {
    let http = NeverClient::new();
    let start = Instant::now();
    let error = read(&testing::aws_over(http.clone())).await.unwrap_err();
    assert_eq!(
        (error.kind, http.num_calls()),
        (Obstacle::TimedOut, 3),
        "{error}"
    );
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_probe_tells_the_newest_line_of_each_stream() {
    let start = mock!(Client::start_query)
        .match_requests(|ask| {
            let query = ask.query_string().unwrap();
            !query.contains("@message") && query.ends_with("| limit 1000")
        })
        .then_output(|| StartQueryOutput::builder().query_id("q").build());
    let poll = mock!(Client::get_query_results).then_output(|| {
        let row = |time: &str, stream: &str| {
            let field =
                |name: &str, value: &str| ResultField::builder().field(name).value(value).build();
            vec![
                field("@timestamp", &format!("2024-05-19 {time}")),
                field("@logStream", stream),
            ]
        };
        results(QueryStatus::Complete)
            .results(row("06:03:00.000", "a"))
            .results(row("06:02:00.000", "b"))
            .results(row("06:01:00.000", "a"))
            .build()
    });
    let aws = aws(&[&start, &poll]);
    let seen = world(&aws)
        .probe(
            &scheduler(&["/ecs/app"], ""),
            at("06:00:00"),
            at("06:10:00"),
        )
        .await;
    let newest = [
        ("a".to_owned(), at("06:03:00")),
        ("b".to_owned(), at("06:02:00")),
    ];
    assert_eq!(
        seen,
        Observed::Known(Probe {
            newest: newest.into()
        })
    );
}

/// Not more queries at once than allowed, and not more starts a second.
#[tokio::test(start_paused = true)]
async fn schedulers_take_turns() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (now_running, at_most, at_times) = (running.clone(), most.clone(), starts.clone());
    let start = mock!(Client::start_query).then_compute_output(move |_| {
        at_times.lock().unwrap().push(Instant::now());
        let running = now_running.fetch_add(1, SeqCst) + 1;
        at_most.fetch_max(running, SeqCst);
        StartQueryOutput::builder().query_id("q").build()
    });
    let poll = mock!(Client::get_query_results).then_compute_output(move |_| {
        running.fetch_sub(1, SeqCst);
        complete().build()
    });
    let rules: Vec<&Rule> = std::iter::repeat_n([&start, &poll], 12).flatten().collect();
    let aws = aws(&rules);
    let mut pass = world(&aws).pass;
    pass.limits = Limits {
        running_queries: 3,
        // Faster than a query is polled first, so that two run at once for certain.
        start_queries_per_second: 10,
    };
    let world = aws.world(pass);
    let scheduler = scheduler(&["/ecs/app"], "");
    let looks = (0..12).map(|_| world.log(&scheduler, at("06:00:00"), at("06:10:00")));
    let seen = futures::future::join_all(looks).await;
    assert!(seen.iter().all(|seen| seen.known().is_some()), "{seen:?}");
    assert!(
        (2..=3).contains(&most.load(SeqCst)),
        "{}",
        most.load(SeqCst)
    );
    let starts = starts.lock().unwrap();
    for pair in starts.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(100),
            "{starts:?}"
        );
    }
}

#[test]
fn the_lag_is_the_99th_percentile() {
    let event = |lag: i64| LogEvent {
        at: at("06:00:00"),
        ingested: Some(at("06:00:00") + SignedDuration::from_millis(lag)),
        stream: "s".into(),
        id: None,
        message: String::new(),
    };
    let mut events: Vec<LogEvent> = (1..=200).map(event).collect();
    assert_eq!(lag(&events), Some(SignedDuration::from_millis(198)));
    assert_eq!(lag(&events[..1]), Some(SignedDuration::from_millis(1)));
    assert_eq!(lag(&[event(-500)]), Some(SignedDuration::ZERO));
    events.iter_mut().for_each(|event| event.ingested = None);
    assert_eq!((lag(&events), lag(&[])), (None, None));
}

/// Two schedulers of one log group, looked at together.
async fn read_together(aws: &Aws) -> Vec<Observed<LogWindow>> {
    let schedulers = [
        scheduler(&["/ecs/app"], "app/"),
        scheduler(&["/ecs/app"], "beat/"),
    ];
    let look = |scheduler| Look {
        scheduler,
        from: at("06:00:00"),
        until: at("06:10:00"),
    };
    let looks: Vec<Look<'_>> = schedulers.iter().map(look).collect();
    let seen = world(aws).logs(&looks).await;
    seen.into_iter().map(Option::unwrap).collect()
}

/// Both prefixes are in the text of no other query.
fn is_for_both(query: Option<&str>) -> bool {
    query.is_some_and(|text| text.contains(r"/^(?:app\/|beat\/)/"))
}

#[tokio::test(start_paused = true)]
async fn a_shared_query_that_is_refused_is_asked_by_each_alone() {
    let both = mock!(Client::start_query)
        .match_requests(|ask| is_for_both(ask.query_string()))
        .sequence()
        .http_status(400, json_error("MalformedQueryException", "too complex"))
        .build();
    let each = mock!(Client::start_query)
        .match_requests(|ask| !is_for_both(ask.query_string()))
        .then_output(|| StartQueryOutput::builder().query_id("q").build());
    let poll = polled(&[QueryStatus::Complete]);
    let seen = read_together(&aws(&[&both, &each, &poll])).await;
    let lines: Vec<usize> = (seen.iter())
        .map(|seen| seen.known().unwrap().lines.len())
        .collect();
    assert_eq!(
        (lines, both.num_calls(), each.num_calls()),
        (vec![1, 0], 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_shared_query_from_starting_would_keep_each() {
    let both = mock!(Client::start_query)
        .sequence()
        .http_status(400, json_error("ThrottlingException", "Rate exceeded"))
        .times(3)
        .build();
    let seen = read_together(&aws(&[&both])).await;
    let kinds: Vec<Obstacle> = (seen.iter())
        .map(|seen| seen.unknown().unwrap().kind)
        .collect();
    assert_eq!((kinds, both.num_calls()), (vec![Obstacle::Throttled; 2], 3));
}

/// Of those that want a look at once, five begin a second, and none of them so late that it could not
/// end: the others are left for the next pass, and are not unknown.
#[tokio::test(start_paused = true)]
async fn whose_turn_does_not_come_is_not_looked_at() {
    let (start, poll) = (started(), polled(&[QueryStatus::Complete]));
    let rules: Vec<&Rule> = vec![&start, &poll];
    let aws = aws(&rules);
    let mut pass = world(&aws).pass;
    // Looks end after 20 s, and none begins in the last five of them.
    pass.deadline = Some(world(&aws).now() + SignedDuration::from_secs(30));
    let world = aws.world(pass);
    let scheduler = scheduler(&["/ecs/app"], "app/");
    let look = Look {
        scheduler: &scheduler,
        from: at("06:00:00"),
        until: at("06:10:00"),
    };
    let looks = [look];
    let seen = join_all((0..100).map(|_| world.logs(&looks))).await;
    let looked_at = seen.iter().flatten().flatten();
    assert!(looked_at.clone().all(|seen| seen.known().is_some()));
    // The real clock went on by a little between deadline and world.
    let looked_at = looked_at.count();
    assert!((70..=76).contains(&looked_at), "{looked_at}");
    assert_eq!(start.num_calls(), looked_at);
    // In the order in which they asked.
    let first_left = seen.iter().position(|seen| seen[0].is_none());
    assert_eq!(first_left, Some(looked_at));
}
