//! The product as `sam deploy` puts it up.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::aws::{Answer, Aws, CLOUDFORMATION, IAM, LOGS, REGION, percent_decoded, texts};
use super::emulator::{Emulator, clean};
use super::process::{Process, wait_for};
use super::site::Site;
use super::tools::Tools;

/// The stack's own name.
const STACK: &str = "watchdog";

pub struct Stack<'a> {
    aws: &'a Aws,
    outputs: BTreeMap<String, String>,
}

impl<'a> Stack<'a> {
    /// Deploys the built template for one application, by parameters alone, as most people
    /// would. `more` adds parameters (`Name=value`).
    pub fn deploy(tools: &Tools, emulator: &'a Emulator, site: &Site<'_>, more: &[&str]) -> Self {
        // Only what `sam build` makes from the sources: a watchdog.toml that someone has in
        // their checkout is packed too, and would configure another function.
        let built = TempDir::new().unwrap();
        let template = built.path().join("template.yaml");
        let code = built.path().join("WatchdogFunction");
        fs::create_dir(&code).unwrap();
        fs::copy(&tools.template, &template).unwrap();
        fs::copy(&tools.bootstrap, code.join("bootstrap")).unwrap();

        let mut parameters = vec![
            format!("Architecture={}", tools.arch),
            format!("LogGroupName={}", site.group),
            "LogStreamPrefix=app/".to_owned(),
            format!("EcsClusterName={}", site.cluster),
            "EcsContainerName=app".to_owned(),
        ];
        if !site.service.is_empty() {
            parameters.push(format!("EcsServiceName={}", site.service));
        }
        parameters.extend(more.iter().map(|parameter| (*parameter).to_owned()));
        let mut command = clean(&tools.sam, built.path());
        command
            .arg("deploy")
            .args(["--template-file".as_ref(), template.as_os_str()])
            .args(["--stack-name", STACK, "--resolve-s3"])
            .args(["--capabilities", "CAPABILITY_IAM"])
            .args(["--no-confirm-changeset", "--no-progressbar"])
            .arg("--parameter-overrides")
            .args(parameters)
            .env("AWS_ENDPOINT_URL", &emulator.aws.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_DEFAULT_REGION", REGION)
            .env("SAM_CLI_TELEMETRY", "0");
        let mut deployment = Process::start("sam deploy", &mut command);
        let status = deployment.wait_for_end(Duration::from_secs(120));
        assert!(status.success(), "sam deploy: {status}");

        let aws = &emulator.aws;
        let stacks = aws.query(&CLOUDFORMATION, "DescribeStacks", &[("StackName", STACK)]);
        let outputs = texts(&stacks, "OutputKey");
        let outputs = outputs.into_iter().zip(texts(&stacks, "OutputValue"));
        Self {
            aws,
            outputs: outputs.collect(),
        }
    }

    /// One of the stack's outputs.
    pub fn output(&self, name: &str) -> &str {
        let output = self.outputs.get(name);
        output.unwrap_or_else(|| panic!("no output {name}: {:?}", self.outputs))
    }

    /// Calls the function, which must answer with a report.
    pub fn invoke(&self, event: &Value) -> Value {
        let answer = self.call(event);
        let failed = answer.header("X-Amz-Function-Error");
        assert_eq!(failed, None, "{}", answer.body);
        answer.json()
    }

    /// Calls the function, which must fail, and returns its error.
    pub fn invoke_in_vain(&self, event: &Value) -> Value {
        let answer = self.call(event);
        let failed = answer.header("X-Amz-Function-Error");
        assert!(failed.is_some(), "{}", answer.body);
        answer.json()
    }

    fn call(&self, event: &Value) -> Answer {
        let path = format!("/2015-03-31/functions/{}/invocations", self.name());
        (self.aws).rest("lambda", "POST", &path, &event.to_string())
    }

    fn name(&self) -> &str {
        self.output("FunctionName")
    }

    /// Lets the next call begin a new process.
    pub fn start_afresh(&self) {
        let path = format!("/2015-03-31/functions/{}/configuration", self.name());
        let change = json!({"Timeout": 119});
        (self.aws).rest("lambda", "PUT", &path, &change.to_string());
    }

    /// A text with the stack's own names in place of those that each deployment makes up.
    pub fn generic(&self, text: &str) -> String {
        let mut outputs: Vec<_> = self.outputs.iter().collect();
        outputs.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        (outputs.into_iter()).fold(text.to_owned(), |text, (name, value)| {
            text.replace(value.as_str(), &format!("{{{name}}}"))
        })
    }

    /// Wakes the function as its schedule does.
    pub fn wake(&self) -> Value {
        self.invoke(&json!({"source": "scheduler-watchdog.schedule"}))
    }

    /// What the function has logged.
    pub fn log(&self) -> Vec<String> {
        let which = json!({"logGroupName": self.output("LogGroup")});
        let answer = self.aws.json(&LOGS, "FilterLogEvents", &which);
        (answer["events"].as_array().into_iter().flatten())
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Stops the schedule, so that only the test wakes the function, and waits until a pass
    /// that has begun has ended. One that was called and has not begun cannot be seen: stop it
    /// right after a pass.
    pub fn stop_schedule(&self) {
        self.set_schedule("DISABLED");
        wait_for(
            "the last scheduled pass ends",
            Duration::from_secs(30),
            || {
                let count = |word: &str| self.passes(word);
                (count("START RequestId") == count("REPORT RequestId")).then_some(())
            },
        );
    }

    /// Lets the schedule go on.
    pub fn resume_schedule(&self) {
        self.set_schedule("ENABLED");
    }

    fn set_schedule(&self, state: &str) {
        let (path, mut schedule) = self.schedule("scheduler-watchdog.schedule");
        schedule["State"] = Value::from(state);
        let update = schedule.to_string();
        self.aws.rest("scheduler", "PUT", &path, &update);
    }

    /// The one schedule whose input holds this text, and its path.
    pub fn schedule(&self, input: &str) -> (String, Value) {
        let schedules = self.aws.rest("scheduler", "GET", "/schedules", "").json();
        let mut found = (schedules["Schedules"].as_array().unwrap().iter()).filter_map(|known| {
            let path = format!("/schedules/{}", known["Name"].as_str().unwrap());
            let schedule = self.aws.rest("scheduler", "GET", &path, "").json();
            let holds = (schedule["Target"]["Input"].as_str()).is_some_and(|it| it.contains(input));
            holds.then_some((path, schedule))
        });
        let schedule = found.next().expect("a schedule with this input");
        assert!(found.next().is_none(), "two schedules with {input}");
        schedule
    }

    /// Waits until the function has answered so many further calls.
    pub fn wait_for_passes(&self, more: usize) {
        let before = self.passes("REPORT RequestId");
        let what = format!("the schedule wakes the function {more} times");
        wait_for(&what, Duration::from_secs(90), || {
            (self.passes("REPORT RequestId") >= before + more).then_some(())
        });
    }

    fn passes(&self, mark: &str) -> usize {
        let log = self.log();
        log.iter().filter(|line| line.contains(mark)).count()
    }

    /// Takes an action away from the function's role, and returns the policy that it had.
    pub fn deny(&self, action: &str) -> String {
        let policy = self.policy();
        let mut document: Value = serde_json::from_str(&policy).unwrap();
        let mut taken = false;
        document["Statement"]
            .as_array_mut()
            .unwrap()
            .retain_mut(|statement| {
                let actions = statement["Action"].take();
                let mut actions = match actions {
                    Value::Array(actions) => actions,
                    one => vec![one],
                };
                let before = actions.len();
                actions.retain(|known| known != action);
                taken |= actions.len() < before;
                let any = !actions.is_empty();
                statement["Action"] = Value::from(actions);
                any
            });
        assert!(taken, "{action} is not in the policy: {policy}");
        self.set_policy(&document.to_string());
        policy
    }

    /// The policy of the function's role.
    pub fn policy(&self) -> String {
        let fields = [
            ("RoleName", self.output("RoleName")),
            ("PolicyName", "watchdog"),
        ];
        let answer = self.aws.query(&IAM, "GetRolePolicy", &fields);
        percent_decoded(&texts(&answer, "PolicyDocument")[0])
    }

    /// Gives the function's role a policy in place of the template's.
    pub fn set_policy(&self, document: &str) {
        let fields = [
            ("RoleName", self.output("RoleName")),
            ("PolicyName", "watchdog"),
            ("PolicyDocument", document),
        ];
        self.aws.query(&IAM, "PutRolePolicy", &fields);
    }
}
