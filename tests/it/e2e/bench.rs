//! What a function needs around it that is not deployed from the template: the emulator, an
//! application, a table, and a topic that somebody reads.

use std::path::Path;

use tempfile::TempDir;

use super::aws::{Aws, REGION};
use super::emulator::{Emulator, clean};
use super::inbox::{Inbox, create_topic};
use super::rie::Rie;
use super::site::Site;
use super::state::StateTable;
use super::tools::Tools;

/// The scheduler that events/direct.json asks for.
pub const SCHEDULER: &str = "myteacher-production";

pub struct Bench<'a> {
    tools: &'a Tools,
    pub aws: &'a Aws,
    pub site: Site<'a>,
    pub table: StateTable<'a>,
    pub inbox: Inbox<'a>,
    topic: String,
}

impl<'a> Bench<'a> {
    pub fn set_up(tools: &'a Tools, emulator: &'a Emulator) -> Self {
        let aws = &emulator.aws;
        let topic = create_topic(aws, "watchdog-alerts");
        Self {
            tools,
            aws,
            site: Site::create(aws, SCHEDULER),
            table: StateTable::create(aws, "watchdog-state"),
            inbox: Inbox::subscribe(aws, &topic, "alerts"),
            topic,
        }
    }

    /// A function that watches the application, as the template's variables would have it.
    pub fn function(&self) -> Rie {
        self.function_with(&self.aws.endpoint, &[])
    }

    /// The same, but it finds AWS elsewhere, and some variables are different or further ones.
    pub fn function_with(&self, endpoint: &str, changes: &[(&str, &str)]) -> Rie {
        let mut variables = vec![
            ("WATCHDOG_TOPIC_ARN", self.topic.as_str()),
            ("WATCHDOG_TABLE", &self.table.name),
            ("WATCHDOG_SCHEDULER", SCHEDULER),
            ("WATCHDOG_LOG_GROUPS", &self.site.group),
            ("WATCHDOG_LOG_STREAM_PREFIX", "app/"),
            ("WATCHDOG_ECS_CLUSTER", &self.site.cluster),
            ("WATCHDOG_ECS_SERVICE", &self.site.service),
            ("WATCHDOG_ECS_CONTAINER", "app"),
        ];
        // A later value of the same name wins.
        variables.extend_from_slice(changes);
        Rie::start(self.tools, endpoint, &variables)
    }

    /// The command line of somebody who may read and write the deployed watchdog's table; what
    /// it printed.
    pub fn watchdog(&self, arguments: &[&str]) -> String {
        let home = TempDir::new().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_watchdog"));
        let output = clean(program, home.path())
            .args(arguments)
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_ENDPOINT_URL", &self.aws.endpoint)
            .env("WATCHDOG_TABLE", &self.table.name)
            .env("WATCHDOG_SCHEDULER", SCHEDULER)
            .env("WATCHDOG_LOG_GROUPS", &self.site.group)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The scheduler has run every minute up to now.
    pub fn healthy(&self) {
        let task = self.site.task();
        self.site.schedule_runs(&task, 28, 0);
        self.site.web_requests(&task);
    }

    /// The scheduler last ran eight minutes ago, though its container answers web requests.
    pub fn silent(&self) {
        let task = self.site.task();
        self.site.schedule_runs(&task, 40, 8);
        self.site.web_requests(&task);
    }
}
