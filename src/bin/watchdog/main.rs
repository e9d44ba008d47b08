//! The command line: parses arguments, starts, and prints. What the commands do is in the
//! library.

mod cost;
mod jobs;
mod silence;

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use scheduler_watchdog::aws::{Aws, AwsWorld, PassContext};
use scheduler_watchdog::check::{self, Look, Status};
use scheduler_watchdog::config::{self, Config, Environment, Origin, origin};
use scheduler_watchdog::local::{self, Files, LocalWorld};
use scheduler_watchdog::replay::{self, ReplayError, Schedule, Watcher};
use tokio::runtime::Runtime;

/// Notices when an application's scheduler has died silently, and says why.
#[derive(Parser)]
#[command(name = "watchdog", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look once and print the verdict and what would be done. Changes nothing.
    ///
    /// Exit code: 0 ok or suspended, 1 warning or not confirmed yet, 2 critical, 3 unknown
    /// (also wrong arguments, configuration or files); the worst of all schedulers counts, in the
    /// order 0, 1, 3, 2.
    Check(CheckArgs),
    /// Run past logs through the same decisions with a simulated clock: what would it have
    /// said?
    ///
    /// Exit code: 0 whatever was found, 3 for wrong arguments, configuration or files.
    Replay(ReplayArgs),
    /// About the jobs of a scheduler.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Withhold messages and restarts for a while.
    #[command(subcommand)]
    Silence(silence::SilenceCommand),
    /// Estimate what a month costs, from how much comes into the log groups.
    ///
    /// Reads no lines, but one query on each log group scans a day of them, which costs about 2% of what
    /// a month of watching scans. With --gigabytes no AWS is needed.
    Cost(cost::CostArgs),
    /// About the configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a configuration and print every mistake with its place (exit code 3).
    Check {
        /// The file; by default what the other commands would use.
        file: Option<PathBuf>,
    },
}

#[derive(Args)]
struct CheckArgs {
    /// The configuration [default: $WATCHDOG_CONFIG, ./watchdog.toml, or the variables
    /// WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at these log files instead of AWS; `-` is standard input. Reads what `aws logs
    /// filter-log-events`, `aws logs get-query-results` and `aws logs tail` print, and text
    /// whose lines begin with a time.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    log_file: Vec<PathBuf>,
    /// What ECS said, one {"at", "service", "tasks"} a line, with the objects that the AWS CLI
    /// prints.
    #[arg(long, value_name = "FILE", requires = "log_file")]
    service: Option<PathBuf>,
    /// Remember looks at log files in this file, and judge the next one by it. Without it the
    /// past is worked out from the log files anew, and nothing is written.
    #[arg(long, value_name = "FILE", requires = "log_file")]
    state: Option<PathBuf>,
    /// The time of the look at log files: an RFC 3339 time, or `now`. By default the time of
    /// their last event, because a file that was saved yesterday would otherwise always look
    /// like an outage since yesterday.
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "log_file")]
    now: Option<Moment>,
    /// Only this scheduler; may be repeated.
    #[arg(long = "scheduler", value_name = "NAME")]
    schedulers: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
struct ReplayArgs {
    /// The configuration [default: $WATCHDOG_CONFIG, ./watchdog.toml, or the variables
    /// WATCHDOG_…].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log files; `-` is standard input. Reads what `aws logs filter-log-events`, `aws logs
    /// get-query-results` and `aws logs tail` print, and text whose lines begin with a time.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    logs: Vec<PathBuf>,
    /// What ECS said, one {"at", "service", "tasks"} a line, with the objects that the AWS CLI
    /// prints. Without it nothing is known of ECS.
    #[arg(long, value_name = "FILE")]
    service: Option<PathBuf>,
    /// The time of the first pass [default: the first event's, rounded up to a minute].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// No pass after this time. By default the last pass is the first one that sees the last
    /// event: whether the silence after it was an outage or only the end of the file is known
    /// if this says how far time went on.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// The time between passes.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    every: SignedDuration,
    /// How to print: a timeline for people, one JSON object a line, or one page for a browser.
    #[arg(long, value_enum, default_value_t)]
    format: ReplayFormat,
    /// Write to this file, which is replaced once all is written; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Print every pass, not only messages and decisions about restarts.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ReplayFormat {
    #[default]
    Text,
    Json,
    Html,
}

/// A time as it was given.
#[derive(Clone)]
struct Moment {
    text: String,
    /// In UTC where the text names no offset.
    at: Timestamp,
}

impl Moment {
    /// The time, which is said to be taken as UTC where it may be meant otherwise.
    fn in_utc(&self) -> Timestamp {
        if !self.is_absolute() {
            eprintln!("`{}` has no offset: taken as UTC", self.text);
        }
        self.at
    }

    fn is_absolute(&self) -> bool {
        self.text == NOW || local::time::is_absolute(&self.text)
    }
}

const NOW: &str = "now";

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the user asks for the clock")]
    Timestamp::now()
}

fn moment(text: &str) -> Result<Moment, String> {
    let at = if text == NOW {
        Some(now())
    } else {
        local::time::parse(text, &TimeZone::UTC)
    };
    let at = at.ok_or("expected a time such as 2026-11-24T03:36:09Z (UTC unless it says so)")?;
    let text = text.to_owned();
    Ok(Moment { text, at })
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    (text.parse()).map_err(|_| "expected a duration such as 90s, 5m, 1h 30m or 24h".into())
}

/// What is wrong with the input, for people.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // clap's own code for wrong arguments means "critical" to monitoring systems.
            let code = if error.use_stderr() { 3 } else { 0 };
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Check(args) => run_check(args),
        Command::Replay(args) => run_replay(args),
        Command::Jobs(command) => jobs::run(command),
        Command::Silence(command) => silence::run(command),
        Command::Cost(args) => cost::run(args),
        Command::Config(ConfigCommand::Check { file }) => run_config_check(file),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

/// Whoever read the output has seen enough; that is no failure.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = match error.downcast_ref::<ReplayError>() {
        Some(ReplayError::Output(io)) => Some(io),
        _ => error.downcast_ref::<io::Error>(),
    };
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

fn configuration(given: Option<PathBuf>) -> Result<(Config, Origin), Failure> {
    let environment = Environment::of_process();
    let mut origin = origin(given, &environment, |path| path.exists());
    if matches!(origin, Origin::Ssm(_)) {
        origin = runtime()?.block_on(async {
            let aws = Aws::load().await?;
            Ok::<_, Failure>(aws.fetch(origin).await?)
        })?;
    }
    let config = config::load(&origin, &environment)?;
    Ok((config, origin))
}

/// One thread is enough, and the worlds are not made for more.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn run_check(args: CheckArgs) -> Result<u8, Failure> {
    let (config, _) = configuration(args.config.clone())?;
    config.select(&args.schedulers)?;
    let look = if args.log_file.is_empty() {
        from_aws(&config, &args.schedulers)?
    } else {
        from_files(&config, &args)?
    };
    let text = match args.format {
        Format::Json => format!("{:#}\n", look.json()),
        Format::Text => look.text(),
    };
    print(&text)?;
    Ok(Status::of(&look.report).exit_code())
}

/// One look through AWS. With WATCHDOG_TABLE it judges by the deployed watchdog's memory.
fn from_aws(config: &Config, schedulers: &[String]) -> Result<Look, Failure> {
    with_aws(config, async |world| {
        Ok(check::live(config, world, schedulers).await)
    })
}

/// Does something in the world of AWS, with the deployed watchdog's memory if WATCHDOG_TABLE
/// names its table.
fn with_aws<T>(
    config: &Config,
    act: impl AsyncFnOnce(&AwsWorld<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let environment = Environment::of_process();
    runtime()?.block_on(async {
        let aws = Aws::load().await?;
        let world = aws.world(PassContext {
            topic: config.alerts.topic_arn.as_deref(),
            table: environment.get("WATCHDOG_TABLE"),
            deadline: None,
            limits: config.limits,
        });
        act(&world).await
    })
}

/// Does something with the deployed watchdog's memory.
fn on_aws<T>(
    config: &Config,
    act: impl AsyncFnOnce(&AwsWorld<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if Environment::of_process().get("WATCHDOG_TABLE").is_none() {
        return Err(
            "name the deployed watchdog's table in WATCHDOG_TABLE, or a file with --state".into(),
        );
    }
    with_aws(config, act)
}

/// Prints to standard output. Whoever read enough of it and went away is no failure.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn from_files(config: &Config, args: &CheckArgs) -> Result<Look, Failure> {
    let files = Files {
        logs: args.log_file.clone(),
        service: args.service.clone(),
        state: args.state.clone(),
    };
    let mut progress = Progress::new("looking");
    let mut world = LocalWorld::read(config, &files, &mut |note| progress.tell(note))?;
    if let Some(state) = &args.state {
        // A look that cannot be remembered decides nothing, and would seem to be well.
        world
            .try_to_remember()
            .map_err(|error| format!("--state {} cannot be written: {error}", state.display()))?;
    }
    let now = match (&args.now, world.span()) {
        (Some(now), _) => now.in_utc(),
        (None, Some(span)) => span.arrived,
        (None, None) => return Err(Box::from("the log files hold no event; give --now")),
    };
    if is_present(now) {
        world.set_present(now);
    }
    let runtime = runtime()?;
    let mut look = if args.state.is_some() {
        runtime.block_on(check::remembered(config, &world, &args.schedulers, now))
    } else {
        runtime.block_on(check::once(
            config,
            &world,
            &args.schedulers,
            now,
            &mut |done, of| progress.show(done, of),
        ))
    };
    look.ends_with_log = args.now.is_none() && !is_present(now);
    Ok(look)
}

/// A log whose newest line is this young tells of the present: an interval between two looks.
const PRESENT: SignedDuration = SignedDuration::from_mins(5);

/// Whether a look at that time is one at the present, of which health endpoints can tell.
fn is_present(now: Timestamp) -> bool {
    // Endpoints are asked by the real clock.
    self::now().duration_since(now).abs() <= PRESENT
}

fn run_replay(args: ReplayArgs) -> Result<u8, Failure> {
    let to_stdout = args.output.as_os_str() == "-";
    if to_stdout && args.format == ReplayFormat::Html && io::stdout().is_terminal() {
        return Err(Box::from(
            "a page is of no use on a terminal; give --output report.html",
        ));
    }
    let (config, _) = configuration(args.config)?;
    let files = Files {
        logs: args.logs,
        service: args.service,
        state: None,
    };
    let options = replay::Options {
        from: args.from.as_ref().map(Moment::in_utc),
        until: args.until.as_ref().map(Moment::in_utc),
        every: args.every,
        format: match args.format {
            ReplayFormat::Text => replay::Format::Text,
            ReplayFormat::Json => replay::Format::Json,
            ReplayFormat::Html => replay::Format::Html,
        },
        all: args.all,
    };
    let mut progress = Progress::new("replaying");
    let world = LocalWorld::read(&config, &files, &mut |note| progress.tell(note))?;
    let schedule = Schedule::new(&world, &options)?;
    progress.of = schedule.passes();
    let mut replay = |out: &mut dyn Write| -> Result<(), Failure> {
        let mut out = BufWriter::new(out);
        let run = replay::run(
            &config,
            &world,
            &schedule,
            &options,
            &mut out,
            &mut progress,
        );
        runtime()?.block_on(run)?;
        Ok(())
    };
    if to_stdout {
        replay(&mut io::stdout().lock())?;
    } else {
        let path = &args.output;
        write_file(path, replay).map_err(|error| match error.downcast::<io::Error>() {
            Ok(error) => Failure::from(format!("{}: {error}", path.display())),
            Err(error) => error,
        })?;
    }
    Ok(0)
}

/// Writes a file beside and puts it in its place once it is whole. What is no file, such as
/// a device, is written to.
fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Where a link leads is replaced, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.exists() && !path.is_file() {
        return write(&mut File::options().write(true).open(&path)?);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", process::id()));
    let draft = path.with_file_name(name);
    let written = File::create(&draft)
        .map_err(Failure::from)
        .and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()?;
            Ok(fs::rename(&draft, &path)?)
        });
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

fn run_config_check(file: Option<PathBuf>) -> Result<u8, Failure> {
    let (config, origin) = configuration(file)?;
    let origin = match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Text { name, .. } => name,
        Origin::Ssm(name) => format!("ssm:{name}"),
        Origin::Variables => "environment variables".to_owned(),
    };
    let jobs: usize = (config.schedulers.iter()).map(|s| s.jobs.len()).sum();
    let count = |number: usize, word: &str| {
        format!("{number} {word}{}", if number == 1 { "" } else { "s" })
    };
    println!(
        "ok: {}, {} ({origin})",
        count(config.schedulers.len(), "scheduler"),
        count(jobs, "job")
    );
    Ok(0)
}

/// A bar for people who wait: on a terminal, and only once it takes long.
struct Progress {
    what: &'static str,
    started: Instant,
    of: u64,
    bar: Option<ProgressBar>,
}

/// What takes less needs no bar.
const LONG: Duration = Duration::from_secs(1);

impl Progress {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            started: Instant::now(),
            of: 0,
            bar: None,
        }
    }

    fn tell(&self, note: String) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{note}")),
            None => eprintln!("{note}"),
        }
    }

    fn show(&mut self, done: u64, of: u64) {
        if self.bar.is_none() && self.started.elapsed() > LONG && io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Watcher for Progress {
    fn progress(&mut self, passes: u64) {
        self.show(passes, self.of);
    }

    fn note(&mut self, note: String) {
        self.tell(note);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
