//! Where the configuration comes from: `WATCHDOG_CONFIG`, a packed file, or one scheduler
//! described by environment variables alone.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Config, Endpoint, Mistake, Mistakes, read};

/// The environment variables that the program knows, read once at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

/// Where the configuration's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The text itself, and what it is called in mistakes.
    Text {
        /// `WATCHDOG_CONFIG`, or the parameter's name.
        name: String,
        /// The document.
        text: String,
    },
    /// A parameter of the SSM Parameter Store, by name.
    Ssm(String),
    /// The variables themselves describe one scheduler.
    Variables,
}

/// The file that is packed with the function.
const PACKED: &str = "watchdog.toml";

/// One variable and the place of its value in the configuration file's terms. The order is
/// that of the tables in the file, because the document is built from them in turn.
const VARIABLES: [(&str, &str, Shape); 24] = [
    ("WATCHDOG_TOPIC_ARN", "alerts.topic_arn", Shape::Text),
    ("WATCHDOG_LANGUAGE", "alerts.language", Shape::Text),
    ("WATCHDOG_HIDE_EMAILS", "alerts.hide_emails", Shape::Literal),
    ("WATCHDOG_PING_URL", "alerts.ping_url", Shape::Text),
    (
        "WATCHDOG_PING_ALLOW_PRIVATE",
        "alerts.ping_allow_private",
        Shape::Literal,
    ),
    ("WATCHDOG_SCHEDULER", "scheduler.name", Shape::Text),
    ("WATCHDOG_LOG_GROUPS", "scheduler.log_groups", Shape::List),
    (
        "WATCHDOG_LOG_STREAM_PREFIX",
        "scheduler.log_stream_prefix",
        Shape::Text,
    ),
    ("WATCHDOG_PRESET", "scheduler.preset", Shape::Text),
    ("WATCHDOG_STALE_AFTER", "scheduler.stale_after", Shape::Text),
    ("WATCHDOG_TIMEZONE", "scheduler.timezone", Shape::Text),
    ("WATCHDOG_HEALTH_URL", "scheduler.health_url", Shape::Text),
    (
        "WATCHDOG_HEALTH_ALLOW_PRIVATE",
        "scheduler.health_allow_private",
        Shape::Literal,
    ),
    ("WATCHDOG_ECS_CLUSTER", "scheduler.ecs.cluster", Shape::Text),
    ("WATCHDOG_ECS_SERVICE", "scheduler.ecs.service", Shape::Text),
    (
        "WATCHDOG_ECS_TASK_DEFINITION",
        "scheduler.ecs.task_definition",
        Shape::Text,
    ),
    ("WATCHDOG_ECS_SUBNETS", "scheduler.ecs.subnets", Shape::List),
    (
        "WATCHDOG_ECS_SECURITY_GROUPS",
        "scheduler.ecs.security_groups",
        Shape::List,
    ),
    (
        "WATCHDOG_ECS_CONTAINER",
        "scheduler.ecs.container",
        Shape::Text,
    ),
    (
        "WATCHDOG_ERROR_THRESHOLD",
        "scheduler.errors.threshold",
        Shape::Literal,
    ),
    (
        "WATCHDOG_ACTION",
        "scheduler.remediation.action",
        Shape::Text,
    ),
    (
        "WATCHDOG_REPLICA_ACTION",
        "scheduler.remediation.replica_action",
        Shape::Text,
    ),
    (
        "WATCHDOG_REMEDIATE_AFTER",
        "scheduler.remediation.after",
        Shape::Text,
    ),
    (
        "WATCHDOG_ALLOW_MUTABLE_IMAGE_TAG",
        "scheduler.remediation.allow_mutable_image_tag",
        Shape::Literal,
    ),
];

/// Variables that are no part of the configuration's document.
const OTHERS: [&str; 3] = ["WATCHDOG_CONFIG", "WATCHDOG_TABLE", "WATCHDOG_LOG"];

/// How the names of all begin.
const PREFIX: &str = "WATCHDOG_";

/// How a variable's text becomes a TOML value.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    List,
    Literal,
}

impl Environment {
    /// Reads the process's environment. An empty variable counts as unset.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only reader of the environment"
    )]
    pub fn of_process() -> Self {
        Self::of(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// Takes the given variables instead of the process's.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            variables: variables
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        }
    }

    /// The value of a variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        (self.variables.iter())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// One scheduler, described by variables alone.
    ///
    /// # Errors
    /// All mistakes in them, each with the variable's name as its place.
    pub fn config(&self) -> Result<Config, Mistakes> {
        if self.get("WATCHDOG_LOG_GROUPS").is_none() {
            return Err(Mistakes::at(
                "environment",
                "nothing is configured: set WATCHDOG_CONFIG to a file, or WATCHDOG_LOG_GROUPS \
                 and WATCHDOG_SCHEDULER for one scheduler",
            ));
        }
        let (text, lines) = self.document();
        read::document(&text, &|line, _| {
            let name = lines.get(line.saturating_sub(1)).copied().flatten();
            name.unwrap_or("environment").to_owned()
        })
        .map_err(|mut mistakes| {
            for Mistake { message, .. } in &mut mistakes.0 {
                if let Some(variable) = missing(message) {
                    *message = format!("{variable} is missing");
                }
            }
            mistakes
        })
    }

    /// Finds variables whose names are misspelt, which would be ignored.
    ///
    /// # Errors
    /// All that are nearly one of the program's own. Others are somebody else's, such as systemd's
    /// `WATCHDOG_USEC`.
    fn check_names(&self) -> Result<(), Mistakes> {
        let known: Vec<&str> = (VARIABLES.iter().map(|(name, ..)| *name))
            .chain(OTHERS)
            .filter_map(|name| name.strip_prefix(PREFIX))
            .collect();
        let misspelt: Vec<Mistake> = (self.variables.iter())
            .filter_map(|(variable, _)| {
                let name = variable.strip_prefix(PREFIX)?;
                // To compare it with each takes longer than all the rest of reading a configuration.
                if known.contains(&name) {
                    return None;
                }
                let meant = read::closest(name, &known)?;
                Some(Mistake {
                    place: variable.clone(),
                    message: format!("unknown variable; nearest valid name: `{PREFIX}{meant}`"),
                })
            })
            .collect();
        if misspelt.is_empty() {
            Ok(())
        } else {
            Err(Mistakes(misspelt))
        }
    }

    /// Fills in what a file leaves to the deployment: the alert topic and the dead man's switch.
    ///
    /// # Errors
    /// The switch's URL is none.
    pub fn complete(&self, mut config: Config) -> Result<Config, Mistakes> {
        let topic = self.get("WATCHDOG_TOPIC_ARN").map(str::to_owned);
        config.alerts.topic_arn = config.alerts.topic_arn.or(topic);
        if config.alerts.ping.is_none()
            && let Some(url) = self.get("WATCHDOG_PING_URL")
        {
            let allow_private = self.get("WATCHDOG_PING_ALLOW_PRIVATE") == Some("true");
            let ping = Endpoint::parse(url, allow_private);
            config.alerts.ping = Some(ping.map_err(|why| Mistakes::at("WATCHDOG_PING_URL", why))?);
        }
        Ok(config)
    }

    /// The variables as a TOML document, and for each of its lines the variable behind it.
    fn document(&self) -> (String, Vec<Option<&'static str>>) {
        let mut text = String::new();
        let mut lines = Vec::new();
        let mut open = "";
        for (variable, path, shape) in VARIABLES {
            let Some(value) = self.get(variable) else {
                continue;
            };
            let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
            if table != open {
                for header in headers(open, table) {
                    text.push_str(&header);
                    lines.push(None);
                }
                open = table;
            }
            let value = match shape {
                Shape::Text => quoted(value),
                // What is neither a number nor true or false is told so by its key.
                Shape::Literal => match value.trim() {
                    text if text.parse::<bool>().is_ok() || text.parse::<i64>().is_ok() => {
                        text.to_owned()
                    }
                    text => quoted(text),
                },
                Shape::List => {
                    let items: Vec<String> = (value.split(','))
                        .map(str::trim)
                        .filter(|item| !item.is_empty())
                        .map(quoted)
                        .collect();
                    format!("[{}]", items.join(", "))
                }
            };
            let _ = writeln!(text, "{key} = {value}");
            lines.push(Some(variable));
        }
        (text, lines)
    }
}

/// The variable whose absence a mistake tells of, by its key in the file.
fn missing(message: &str) -> Option<&'static str> {
    let key = message.strip_prefix('`')?.strip_suffix("` is missing")?;
    (VARIABLES.iter())
        .find(|(_, path, _)| path.rsplit('.').next() == Some(key))
        .map(|(variable, ..)| *variable)
}

/// The headers that lead to `table`; the scheduler's own is an array's element and is opened
/// once.
fn headers(open: &str, table: &str) -> Vec<String> {
    let mut headers = Vec::new();
    if table.starts_with("scheduler") && !open.starts_with("scheduler") {
        headers.push("[[scheduler]]\n".to_owned());
    }
    if table != "scheduler" {
        headers.push(format!("[{table}]\n"));
    }
    headers
}

/// A TOML basic string on one line. JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads the configuration from where it is.
///
/// # Errors
/// A variable is misspelt, it cannot be read, all mistakes in it, or it is in the SSM Parameter Store, where only
/// [`Aws::fetch`](crate::aws::Aws::fetch) can get it.
pub fn load(origin: &Origin, environment: &Environment) -> Result<Config, Mistakes> {
    environment.check_names()?;
    let config = match origin {
        Origin::Variables => environment.config(),
        Origin::Text { name, text } => Config::parse(text, name),
        Origin::File(file) => Config::read(file),
        Origin::Ssm(name) => Err(Mistakes::at(
            "WATCHDOG_CONFIG",
            format!("the parameter `{name}` is read from AWS only; give --config FILE"),
        )),
    }?;
    environment.complete(config)
}

/// Decides where the configuration comes from.
///
/// `given` is the command line's `--config`; then `WATCHDOG_CONFIG`, the file packed with the
/// function, and last the variables. `exists` tells whether a file is there.
pub fn origin(
    given: Option<PathBuf>,
    environment: &Environment,
    exists: impl Fn(&PathBuf) -> bool,
) -> Origin {
    if let Some(file) = given {
        return Origin::File(file);
    }
    if let Some(value) = environment.get("WATCHDOG_CONFIG") {
        return match value.strip_prefix("ssm:") {
            Some(name) => Origin::Ssm(name.trim().to_owned()),
            // No path holds a line break or a table, and no document lacks them.
            None if value.contains('\n') || value.contains('[') => Origin::Text {
                name: "WATCHDOG_CONFIG".to_owned(),
                text: value.to_owned(),
            },
            None => Origin::File(PathBuf::from(value)),
        };
    }
    let root = environment.get("LAMBDA_TASK_ROOT").unwrap_or(".");
    let packed = PathBuf::from(root).join(PACKED);
    if exists(&packed) {
        return Origin::File(packed);
    }
    Origin::Variables
}
