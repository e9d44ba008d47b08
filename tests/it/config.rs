//! Configuration: what is accepted, and how mistakes are told.

use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::config::{
    Config, Cure, EcsTarget, Environment, Language, Limits, Origin, Shard, StaleAfter, load, origin,
};

/// The example of the documentation.
const EXAMPLE: &str = include_str!("../../examples/watchdog.toml");

#[test]
fn the_example_is_read_as_it_is_meant() {
    let config = Config::parse(EXAMPLE, "watchdog.toml").unwrap();
    let scheduler = &config.schedulers[0];
    assert_eq!(scheduler.name, "myteacher-production");
    assert_eq!(
        scheduler.stale_after,
        StaleAfter::Fixed(SignedDuration::from_mins(5))
    );
    assert_eq!(scheduler.log_stream_prefix, "app/");
    assert_eq!(scheduler.remediation.action, Cure::ForceNewDeployment);
    let ecs = scheduler.ecs.as_ref().unwrap();
    assert_eq!(
        ecs.target,
        EcsTarget::Service("myteacher-production-app-service".into())
    );
    // The job of December runs in no other month, by the scheduler's clock in Tokyo.
    let job = scheduler
        .jobs
        .iter()
        .find(|job| !job.active.is_empty())
        .unwrap();
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let runs = |from, until| job.runs(at(from), at(until)).count();
    assert_eq!(runs("2025-11-30T14:00:00Z", "2025-11-30T14:59:00Z"), 0);
    assert_eq!(runs("2025-11-30T14:59:00Z", "2025-11-30T15:30:00Z"), 7);
    assert_eq!(runs("2025-12-14T14:30:00Z", "2025-12-14T16:00:00Z"), 5);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"
[alerts]
topic_arn = "arn:aws:sqs:ap-northeast-1:123456789012:queue"
langauge = "en"
remind_after = "1s"

[limits]
running_queries = 1000

[[scheduler]]
name = "one scheduler"
log_groups = []
preset = "laravell"
stale_after = "soon"
timezone = "Asia/Tokio"

[scheduler.ecs]
cluster = "c"

[scheduler.errors]
treshold = 5
window = "5"

[scheduler.remediation]
action = "force-new-deploymnt"

[[scheduler.job]]
name = "redis:monitor"
cron = "*/5 * * *"

[[scheduler.job]]
name = "payment:clean"
cron = "0 0 31 2 *"
active = [{ from = "2025-12-14", until = "2025-12-01" }]

[[scheduler.pattern]]
kind = "heartbeet"
pattern = "tick ("
"#;
    let mistakes = Config::parse(text, "watchdog.toml").unwrap_err();
    insta::assert_snapshot!(mistakes);
}

/// A whole number is a number, and one without a unit is no duration.
#[test]
fn numbers_and_durations_are_not_confused() {
    let scheduler = "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n";
    for (written, meant) in [("3", 3.0), ("3.0", 3.0), ("0", 0.0), ("2.5", 2.5)] {
        let text = format!("{scheduler}[scheduler.errors]\nbaseline_factor = {written}\n");
        let config = Config::parse(&text, "watchdog.toml").unwrap();
        let factor = config.schedulers[0].errors.baseline_factor;
        assert!((factor - meant).abs() < f64::EPSILON, "{written}: {factor}");
    }
    let text = format!(
        "[alerts]\nremind_after = 3600\n{scheduler}stale_after = 300\n\
         [scheduler.errors]\nthreshold = \"5\"\nbaseline_factor = \"3\"\n\
         [[scheduler.job]]\nname = \"x\"\ncron = \"* * * * *\"\nevery = 20\ngrace = 5.0\n"
    );
    let mistakes = Config::parse(&text, "watchdog.toml").unwrap_err();
    insta::assert_snapshot!(mistakes, @r#"
    watchdog.toml:2:16: `remind_after`: expected a duration in quotes, such as "5m", found integer
    watchdog.toml:6:15: `stale_after`: expected a duration in quotes, such as "5m", found integer
    watchdog.toml:8:14: `threshold`: expected a whole number, found string
    watchdog.toml:9:20: `baseline_factor`: expected a number, found string
    watchdog.toml:13:9: `every`: expected a duration in quotes, such as "5m", found integer
    watchdog.toml:14:9: `grace`: expected a duration in quotes, such as "5m", found float
    "#);
}

/// What is near by its letters may be hours away.
#[test]
fn a_zone_is_suggested_only_by_a_name_of_a_place() {
    let scheduler = "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n";
    for zone in ["JST", "jst", "BST", "+09:00", "UTC+9", "Tokyo"] {
        let text = format!("{scheduler}timezone = \"{zone}\"\n");
        let told = Config::parse(&text, "w").unwrap_err().to_string();
        let expected = format!(
            "w:4:13: `{zone}` is no time zone of the IANA database; name one, such as `Asia/Tokyo`"
        );
        assert_eq!(told, expected);
    }
    let text = format!("{scheduler}timezone = \"Amerika/New_York\"\n");
    let told = Config::parse(&text, "w").unwrap_err().to_string();
    assert!(
        told.ends_with("; nearest valid name: `America/New_York`"),
        "{told}"
    );
}

#[test]
fn mistakes_across_tables_are_told() {
    let scheduler = |name: &str, more: &str| {
        format!("[[scheduler]]\nname = \"{name}\"\nlog_groups = [\"/ecs/a\"]\n{more}\n")
    };
    let cases = [
        String::new(),
        "scheduler = []".to_owned(),
        "[[scheduler]\n".to_owned(),
        scheduler("a", "") + &scheduler("a", ""),
        scheduler(
            "a",
            "[scheduler.remediation]\naction = \"force-new-deployment\"",
        ),
        scheduler(
            "a",
            "[scheduler.remediation]\nreplica_action = \"stop-task\"",
        ),
        scheduler(
            "a",
            "[scheduler.ecs]\ncluster = \"c\"\nservice = \"s\"\ntask_definition = \"t\"",
        ),
        scheduler(
            "a",
            "[[scheduler.job]]\nname = \"x\"\ncron = \"* * * * *\"\n\
             [[scheduler.job]]\nname = \"php artisan x\"\ncron = \"* * * * *\"",
        ),
        ["a", "b"]
            .map(|name| {
                scheduler(
                    name,
                    "[scheduler.ecs]\ncluster = \"c\"\nservice = \"s\"\n\
                 [scheduler.remediation]\nreplica_action = \"stop-task\"\n\
                 action = \"force-new-deployment\"",
                )
            })
            .concat(),
        // A mistake inside a table hides none of these.
        scheduler("a", "stale_after = \"x\"") + &scheduler("a", "stale_after = \"y\""),
        scheduler(
            "a",
            "[scheduler.remediation]\naction = \"run-task\"\nreplica_action = \"stop-tsk\"",
        ),
        scheduler(
            "a",
            "[[scheduler.job]]\nname = \"x\"\ncron = \"x\"\n\
             [[scheduler.job]]\nname = \"x\"\ncron = \"y\"\nenvironments = [\"production\"]",
        ),
        scheduler(
            "a",
            "preset = \"generic\"\n[[scheduler.pattern]]\nkind = \"heartbet\"\npattern = \"(\"",
        ),
        "[scheduler]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]".to_owned(),
        scheduler("a", "preset = \"generic\""),
        scheduler(
            "a",
            "preset = \"generic\"\n[[scheduler.pattern]]\nkind = \"error\"\npattern = \"boom\"",
        ),
    ];
    let told: Vec<String> = (cases.iter())
        .map(|text| {
            Config::parse(text, "watchdog.toml")
                .unwrap_err()
                .to_string()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n---\n"));
}

/// Each mistake of a job or a silence, with its line.
#[test]
fn mistakes_in_jobs_and_silences_are_told() {
    let scheduler = "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n";
    let job = |more: &str| {
        format!("{scheduler}[[scheduler.job]]\nname = \"x\"\ncron = \"0 0 * * *\"\n{more}\n")
    };
    let silence = |more: &str| format!("{scheduler}[[scheduler.silence]]\n{more}\n");
    let cases = [
        format!("{scheduler}[[scheduler.job]]\nname = \"x\"\ncron = \"0 0 31 2 *\"\n"),
        format!("{scheduler}[[scheduler.job]]\nname = \"x\"\ncron = []\n"),
        job("timezone = \"Asia/Tokio\""),
        job("every = \"25s\""),
        job("grace = \"9d\""),
        job("active = [{ from = \"2025-12-14\", until = \"2025-12-01\" }]"),
        job(
            "active = [{ from = \"2025-12-01\" }, { until = \"2025-12-24\", weekdays = [\"mon\"] }]",
        ),
        job("active = [{}]"),
        job("active = [{ between = \"8-17\" }]"),
        job("active = [{ between = \"08:00-08:00\" }]"),
        job("active = [{ weekdays = [\"monday\"] }]"),
        job("active = [{ between = \"08:00-18:00\" }]"),
        format!(
            "{scheduler}[[scheduler.job]]\nname = \"x\"\ncron = \"0 0 1 * *\"\n\
             active = [{{ from = \"2025-12-02\", until = \"2025-12-14\" }}]\n"
        ),
        job("environments = [\"production\"]"),
        job("match = { regex = \"(\" }"),
        job("match = { text = \"x\" }"),
        job("failure_tolerance = 0"),
        silence("cron = \"0 2 * * sun\""),
        silence("cron = \"0 2 * * sun\"\nduration = \"25h\""),
        silence("cron = \"0 * * * *\"\nduration = \"1h\""),
        silence("cron = \"0 2 * * sun\"\nduration = \"1h\"\nconditions = [\"job-late\"]"),
        format!(
            "{scheduler}{}",
            (0..151)
                .map(|n| format!("[[scheduler.job]]\nname = \"{n}\"\ncron = \"0 0 * * *\"\n"))
                .collect::<String>()
        ),
    ];
    let told: Vec<String> = (cases.iter())
        .map(|text| {
            let mistakes = Config::parse(text, "watchdog.toml").unwrap_err();
            let shown = text.lines().skip(3).take(4).collect::<Vec<_>>().join("\n");
            format!("{shown}\n=> {mistakes}")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n---\n"));
}

#[test]
fn windows_that_seldom_hold_a_run_are_none_the_less_possible() {
    for (cron, window) in [
        ("0 0 29 2 *", "weekdays = [\"mon\"]"),
        ("* * * * *", "until = \"1999-12-31\""),
        ("59 23 31 12 *", "between = \"23:59-00:00\""),
        ("0 0 1 1 *", "from = \"2099-12-31\""),
    ] {
        let text = format!(
            "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n[[scheduler.job]]\n\
             name = \"x\"\ncron = \"{cron}\"\nactive = [{{ {window} }}]\n"
        );
        Config::parse(&text, "watchdog.toml").unwrap();
    }
}

#[test]
fn own_patterns_make_the_generic_preset_one() {
    for (kind, pattern) in [
        ("heartbeat", "^tick"),
        ("started", "^start (?<job>.+)"),
        ("ended", "^end (?<job>.+)"),
        ("succeeded", "^good (?<job>.+)"),
    ] {
        let text = format!(
            "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\npreset = \"generic\"\n\
             [[scheduler.pattern]]\nkind = \"{kind}\"\npattern = \"{pattern}\"\n"
        );
        Config::parse(&text, "watchdog.toml").unwrap();
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::of(
        variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    )
}

#[test]
fn variables_describe_one_scheduler() {
    let environment = environment(&[
        (
            "WATCHDOG_TOPIC_ARN",
            "arn:aws:sns:ap-northeast-1:123456789012:alerts",
        ),
        ("WATCHDOG_LANGUAGE", "ja"),
        ("WATCHDOG_HIDE_EMAILS", "false"),
        ("WATCHDOG_SCHEDULER", "production"),
        ("WATCHDOG_LOG_GROUPS", "/ecs/a, /ecs/b"),
        ("WATCHDOG_LOG_STREAM_PREFIX", "app/\"\\"),
        ("WATCHDOG_PRESET", ""),
        ("WATCHDOG_TIMEZONE", "Asia/Tokyo"),
        ("WATCHDOG_ECS_CLUSTER", "cluster"),
        ("WATCHDOG_ECS_SERVICE", "service"),
        ("WATCHDOG_ACTION", "force-new-deployment"),
        ("WATCHDOG_ALLOW_MUTABLE_IMAGE_TAG", "true"),
    ]);
    let config = environment.config().unwrap();
    assert_eq!(config.alerts.language, Language::Ja);
    let scheduler = &config.schedulers[0];
    assert_eq!(scheduler.log_groups, ["/ecs/a", "/ecs/b"]);
    assert_eq!(scheduler.log_stream_prefix, "app/\"\\");
    assert!(scheduler.remediation.allow_mutable_image_tag);
}

#[test]
fn mistakes_in_variables_carry_the_variables_names() {
    let environment = environment(&[
        ("WATCHDOG_LOG_GROUPS", "/ecs/a"),
        ("WATCHDOG_SCHEDULER", "production"),
        ("WATCHDOG_STALE_AFTER", "5 minuts"),
        ("WATCHDOG_ECS_CLUSTER", "cluster"),
        ("WATCHDOG_ACTION", "restart"),
        ("WATCHDOG_ALLOW_MUTABLE_IMAGE_TAG", "yes\n[x]"),
    ]);
    insta::assert_snapshot!(environment.config().unwrap_err());
    insta::assert_snapshot!(self::environment(&[]).config().unwrap_err());
    let environment = self::environment(&[
        ("WATCHDOG_LOG_GROUPS", "/ecs/a"),
        ("WATCHDOG_SCHEDULER", "production"),
        ("WATCHDOG_PRESET", "generic"),
    ]);
    insta::assert_snapshot!(environment.config().unwrap_err());
}

#[test]
fn variables_that_are_missing_or_misspelt_are_named() {
    let groups = ("WATCHDOG_LOG_GROUPS", "/ecs/a");
    let told = |variables: &[(&str, &str)]| {
        let environment = environment(&[&[groups], variables].concat());
        load(&Origin::Variables, &environment).map_or_else(|told| told.to_string(), |_| "ok".into())
    };
    assert_eq!(told(&[]), "environment: WATCHDOG_SCHEDULER is missing");
    let named = ("WATCHDOG_SCHEDULER", "a");
    assert_eq!(
        told(&[
            named,
            ("WATCHDOG_TIMEZON", "Asia/Tokyo"),
            ("WATCHDOG_TABEL", "t")
        ]),
        "WATCHDOG_TIMEZON: unknown variable; nearest valid name: `WATCHDOG_TIMEZONE`\n\
         WATCHDOG_TABEL: unknown variable; nearest valid name: `WATCHDOG_TABLE`"
    );
    // What is like none is not the program's, and what is empty is not set.
    let others = [
        named,
        ("WATCHDOG_USEC", "30000000"),
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_LOG", "debug"),
        ("WATCHDOG_TABLE", "t"),
        ("WATCHDOG_TIMEZON", ""),
    ];
    assert_eq!(told(&others), "ok");
}

#[test]
fn the_configuration_is_looked_for_where_it_was_put() {
    let packed = |there: bool| move |_: &std::path::PathBuf| there;
    let inline = environment(&[("WATCHDOG_CONFIG", "[[scheduler]]\nname = \"a\"")]);
    assert!(matches!(
        origin(None, &inline, packed(true)),
        Origin::Text { .. }
    ));
    let file = environment(&[("WATCHDOG_CONFIG", "conf/watchdog.toml")]);
    assert_eq!(
        origin(None, &file, packed(true)),
        Origin::File("conf/watchdog.toml".into())
    );
    let ssm = environment(&[("WATCHDOG_CONFIG", "ssm:/watchdog/config")]);
    assert_eq!(
        origin(None, &ssm, packed(true)),
        Origin::Ssm("/watchdog/config".into())
    );
    let lambda = environment(&[("LAMBDA_TASK_ROOT", "/var/task")]);
    assert_eq!(
        origin(None, &lambda, packed(true)),
        Origin::File("/var/task/watchdog.toml".into())
    );
    assert_eq!(origin(None, &lambda, packed(false)), Origin::Variables);
    assert_eq!(
        origin(Some("x.toml".into()), &inline, packed(true)),
        Origin::File("x.toml".into())
    );
}

#[test]
fn a_configuration_that_cannot_be_had_says_where_it_was_sought() {
    let told = |origin: Origin| load(&origin, &environment(&[])).unwrap_err().to_string();
    assert!(told(Origin::File("no/such.toml".into())).starts_with("no/such.toml: "));
    assert!(told(Origin::Ssm("/watchdog".to_owned())).contains("/watchdog"));
    let text = Origin::Text {
        name: "WATCHDOG_CONFIG".into(),
        text: "x".into(),
    };
    assert!(told(text).starts_with("WATCHDOG_CONFIG:1:"));
}

#[test]
fn urls_that_are_asked_are_read_and_their_mistakes_told_without_them() {
    let scheduler = "[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n";
    let text = format!(
        "[alerts]\nping_url = \"https://switch.example/t0ken\"\n\
         {scheduler}health_url = \"http://10.0.0.1/health\"\nhealth_allow_private = true\n"
    );
    let config = Config::parse(&text, "watchdog.toml").unwrap();
    let (ping, health) = (
        config.alerts.ping.clone(),
        config.schedulers[0].health.clone(),
    );
    assert!(ping.is_some_and(|ping| !ping.allow_private));
    assert!(health.is_some_and(|health| health.allow_private));
    assert!(!format!("{config:?}").contains("t0ken"));
    let told: Vec<String> = [
        format!("[alerts]\nping_url = \"switch.example/t0ken\"\n{scheduler}"),
        format!("[alerts]\nping_allow_private = true\n{scheduler}"),
        format!(
            "{scheduler}health_url = \"ftp://app.example/t0ken\"\nhealth_allow_private = true\n"
        ),
        format!("{scheduler}health_allow_private = true\n"),
        format!("{scheduler}health_url = 5\nhealth_allow_private = \"yes\"\n"),
    ]
    .map(|text| {
        Config::parse(&text, "watchdog.toml")
            .unwrap_err()
            .to_string()
    })
    .into();
    insta::assert_snapshot!(told.join("\n---\n"));
}

#[test]
fn the_switch_of_the_deployment_goes_with_a_file_that_names_none() {
    let file = |more: &str| Origin::Text {
        name: "watchdog.toml".to_owned(),
        text: format!("{more}[[scheduler]]\nname = \"a\"\nlog_groups = [\"/ecs/a\"]\n"),
    };
    let switch = |origin: Origin, url: &str| {
        let environment = environment(&[("WATCHDOG_PING_URL", url)]);
        load(&origin, &environment).map(|config| config.alerts.ping.unwrap().to_string())
    };
    let url = "https://switch.example/t0ken";
    assert_eq!(switch(file(""), url).unwrap(), "https://switch.example");
    let own = file("[alerts]\nping_url = \"https://own.example/t0ken\"\n");
    assert_eq!(switch(own, url).unwrap(), "https://own.example");
    let mistakes = switch(file(""), "t0ken").unwrap_err();
    assert_eq!(
        mistakes.to_string(),
        "WATCHDOG_PING_URL: this is no URL: relative URL without a base"
    );
}

/// The template sets all variables, those that were left out to their defaults.
#[test]
fn variables_name_a_health_endpoint_or_none() {
    let config = |url: &str, allow_private: &str| {
        environment(&[
            ("WATCHDOG_LOG_GROUPS", "/ecs/a"),
            ("WATCHDOG_SCHEDULER", "production"),
            ("WATCHDOG_HEALTH_URL", url),
            ("WATCHDOG_HEALTH_ALLOW_PRIVATE", allow_private),
            ("WATCHDOG_PING_URL", url),
        ])
        .config()
    };
    let none = config("", "false").unwrap();
    assert!(none.schedulers[0].health.is_none() && none.alerts.ping.is_none());
    let both = config("https://app.example/health", "true").unwrap();
    let health = both.schedulers[0].health.clone().unwrap();
    assert!(health.allow_private && both.alerts.ping.is_some());
    let mistakes = config("nowhere", "perhaps").unwrap_err().to_string();
    for variable in ["PING_URL", "HEALTH_URL", "HEALTH_ALLOW_PRIVATE"] {
        assert!(
            mistakes.contains(&format!("WATCHDOG_{variable}: ")),
            "{mistakes}"
        );
    }
}

#[test]
fn limits_follow_the_size_of_the_fleet_and_are_shared_by_its_shards() {
    let limits = |count: usize, given: &str| {
        let mut text = given.to_owned();
        for n in 0..count {
            text += &format!("[[scheduler]]\nname = \"s{n}\"\nlog_groups = [\"/ecs/s{n}\"]\n");
        }
        let limits = Config::parse(&text, "test").unwrap().limits;
        (limits.running_queries, limits.start_queries_per_second)
    };
    assert_eq!((limits(1, ""), limits(200, "")), ((20, 5), (20, 5)));
    assert_eq!(limits(201, ""), (90, 10));
    let given = "[limits]\nstart_queries_per_second = 7\n";
    assert_eq!((limits(1, given), limits(201, given)), ((20, 7), (90, 7)));

    let among = |shards| {
        let limits = Limits::for_schedulers(1_000).of_one_among(shards);
        (limits.running_queries, limits.start_queries_per_second)
    };
    assert_eq!((among(1), among(3), among(10)), ((90, 10), (30, 3), (9, 1)));
    for shards in 1..=Shard::MOST {
        assert!(among(shards).1 * shards <= 10);
    }
}
