//! Publishing a message to its readers.
//!
//! One publish carries a text for each kind of reader, chosen by SNS per subscription:
//!
//! | key | reader | what |
//! |---|---|---|
//! | `email` | people | the plain text |
//! | `sms` | people | the subject; a whole text would be cut and billed in parts |
//! | `https` | Slack and Teams through Amazon Q Developer in chat applications, which subscribes by `https` | the custom-notification JSON; it drops anything else silently |
//! | `http`, `sqs`, `lambda` | machines | the machine JSON |
//! | `default` | all others, such as `firehose` and `email-json` | the machine JSON |
//!
//! A machine that listens at an `https` endpoint of its own therefore gets the chat's JSON, and
//! should rather take the message from a queue or a function; SNS does not tell subscribers of
//! one protocol apart.
//!
//! Needs `sns:Publish` and `sns:GetTopicAttributes` on the topic, and `kms:GenerateDataKey*` and
//! `kms:Decrypt` on its key where it is encrypted under one.

use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::json;

use super::Aws;
use super::obstacle::{Call, cut};
use crate::message::Message;
use crate::snapshot::{CallError, Obstacle, Readers};

/// SNS's limit is 256 KiB with the attributes, for which 4 KiB are set aside.
const MOST_BYTES: usize = (256 - 4) * 1024;

/// The longest single text in a message that would be too long. Quoting doubles a text at
/// worst, and quoting the three machine copies' quotes again at worst doubles those once more.
const CUT_BYTES: usize = 12 * 1024;

/// SNS: fewer than 100 characters.
const MOST_SUBJECT: usize = 99;

/// The longest attribute. Names are shorter; SNS has no limit but the message's own.
const MOST_ATTRIBUTE: usize = 512;

/// Publishes a message to everybody who subscribed to the topic.
pub(super) async fn publish(aws: &Aws, topic: &str, message: &Message) -> Result<(), CallError> {
    let mut publish = (aws.sns().publish())
        .topic_arn(topic)
        .subject(subject(&message.subject))
        .message_structure("json")
        .message(body(message));
    for (name, value) in attributes(message) {
        let value = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(cut(value, MOST_ATTRIBUTE))
            .build();
        // The only thing that can be missing is the data type.
        if let Ok(value) = value {
            publish = publish.message_attributes(name, value);
        }
    }
    let region = region(aws, topic);
    let publish = publish.customize().config_override(config(region));
    (publish.send().await)
        .map(|_| ())
        .map_err(|error| call("sns:Publish", &named(topic), region).error(&error))
}

/// Counts who is subscribed to the topic, in one call.
pub(super) async fn readers(aws: &Aws, topic: &str) -> Result<Readers, CallError> {
    let region = region(aws, topic);
    let thing = named(topic);
    let call = call("sns:GetTopicAttributes", &thing, region);
    let answer = (aws.sns().get_topic_attributes())
        .topic_arn(topic)
        .customize()
        .config_override(config(region))
        .send()
        .await
        .map_err(|error| call.error(&error))?;
    let count = |name: &str| -> Option<u32> { answer.attributes()?.get(name)?.parse().ok() };
    let counts = (count("SubscriptionsConfirmed")).zip(count("SubscriptionsPending"));
    let (confirmed, pending) = counts.ok_or_else(|| {
        call.because(
            Obstacle::Failed,
            "does not say how many subscriptions it has",
        )
    })?;
    Ok(Readers {
        topic: topic.to_owned(),
        confirmed,
        pending,
    })
}

/// A topic's region; SNS knows a topic in its own region only.
fn region<'a>(aws: &'a Aws, topic: &'a str) -> &'a str {
    let named = topic.split(':').nth(3).filter(|region| !region.is_empty());
    named.unwrap_or_else(|| aws.region())
}

fn config(region: &str) -> aws_sdk_sns::config::Builder {
    let region = aws_sdk_sns::config::Region::new(region.to_owned());
    aws_sdk_sns::config::Builder::new().region(region)
}

fn named(topic: &str) -> String {
    format!("topic {topic}")
}

fn call<'a>(action: &'a str, thing: &'a str, region: &'a str) -> Call<'a> {
    Call {
        action,
        thing,
        remedy: "check `topic_arn` in [alerts], or WATCHDOG_TOPIC_ARN",
        region,
    }
}

/// For filter policies. An attribute without a value is refused by SNS, and left out.
fn attributes(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    let notification = &message.notification;
    [
        ("scheduler", notification.scheduler.as_str()),
        ("condition", notification.condition.id()),
        ("severity", notification.severity.id()),
        ("reason", notification.occasion.id()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
}

/// The texts for all readers as one JSON object, within the limit. A message is rendered
/// short; should one be too long all the same, it is cut rather than lost.
fn body(message: &Message) -> String {
    let full = envelope(
        message,
        &message.text,
        &message.chat.to_string(),
        &message.machine.to_string(),
    );
    if full.len() <= MOST_BYTES {
        return full;
    }
    let text: String = (message.text.chars())
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect();
    let text = cut(&text, CUT_BYTES);
    let notification = &message.notification;
    let chat = json!({
        "version": "1.0",
        "source": "custom",
        "id": cut(&notification.id, MOST_ATTRIBUTE),
        "content": {
            "textType": "client-markdown",
            "title": subject(&message.subject),
            "description": "This message was too long for SNS; the e-mail holds its beginning.",
        },
        "metadata": { "threadId": cut(&notification.incident, MOST_ATTRIBUTE) },
    });
    let version = (message.machine.get("version")).filter(|version| version.is_number());
    let machine = json!({
        "version": version,
        "truncated": true,
        "id": cut(&notification.id, MOST_ATTRIBUTE),
        "incident": cut(&notification.incident, MOST_ATTRIBUTE),
        "scheduler": cut(&notification.scheduler, MOST_ATTRIBUTE),
        "condition": notification.condition.id(),
        "severity": notification.severity.id(),
        "reason": notification.occasion.id(),
        "text": cut(&text, CUT_BYTES / 2),
    });
    envelope(message, &text, &chat.to_string(), &machine.to_string())
}

fn envelope(message: &Message, text: &str, chat: &str, machine: &str) -> String {
    json!({
        "default": machine,
        "http": machine,
        "sqs": machine,
        "lambda": machine,
        "https": chat,
        "email": text,
        "sms": subject(&message.subject),
    })
    .to_string()
}

/// SNS's rules for a subject: 1 to 99 printable ASCII characters, the first of them no space.
/// Rendering keeps to them; a subject that does not would lose the message.
fn subject(text: &str) -> String {
    let printable: String = (text.chars())
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    let mut subject = printable.trim_start().to_owned();
    subject.truncate(MOST_SUBJECT);
    subject.truncate(subject.trim_end().len());
    if subject.is_empty() {
        return "Scheduler watchdog".to_owned();
    }
    subject
}

#[cfg(test)]
mod tests {
    use aws_sdk_sns::Client;
    use aws_sdk_sns::operation::publish::PublishOutput;
    use aws_smithy_http_client::test_util::capture_request;
    use aws_smithy_mocks::{Rule, mock};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::aws::testing::{self, sns, xml_error};
    use crate::condition::{Condition, Severity};
    use crate::plan::{Handling, Notification, Occasion};
    use crate::snapshot::Obstacle;

    const TOPIC: &str = "arn:aws:sns:ap-northeast-1:123456789012:alerts";

    fn message() -> Message {
        Message {
            notification: Notification {
                id: "app/1".to_owned(),
                incident: "app".to_owned(),
                at: Timestamp::UNIX_EPOCH,
                scheduler: "app".to_owned(),
                occasion: Occasion::Opened,
                condition: Condition::SchedulerSilent,
                subject: None,
                severity: Severity::Critical,
                since: Timestamp::UNIX_EPOCH,
                again_since: None,
                until: None,
                causes: Vec::new(),
                proof: Vec::new(),
                handling: Handling::Watching,
            },
            subject: "[critical] app is silent".to_owned(),
            text: "It is silent.\nSince 00:00.".to_owned(),
            chat: json!({ "version": "1.0", "source": "custom" }),
            machine: json!({ "version": 1, "id": "app/1" }),
        }
    }

    fn aws(rule: &Rule) -> Aws {
        let aws = testing::aws();
        aws.sns.set(sns(&[rule])).unwrap();
        aws
    }

    fn texts(body: &str) -> serde_json::Map<String, Value> {
        match serde_json::from_str(body) {
            Ok(Value::Object(texts)) => texts,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_reader_gets_its_own_text() {
        let rule = mock!(Client::publish)
            .match_requests(|publish| {
                let texts = texts(publish.message().unwrap());
                let json = |key: &str| -> Value {
                    serde_json::from_str(texts[key].as_str().unwrap()).unwrap()
                };
                assert_eq!(texts["email"], message().text.as_str());
                assert_eq!(texts["sms"], message().subject.as_str());
                assert_eq!(json("https"), message().chat);
                for machine in ["default", "http", "sqs", "lambda"] {
                    assert_eq!(json(machine), message().machine);
                }
                let attributes = publish.message_attributes().unwrap();
                let attribute = |name: &str| attributes[name].string_value().unwrap();
                assert_eq!(attribute("scheduler"), "app");
                assert_eq!(attribute("condition"), "scheduler-silent");
                assert_eq!(attribute("severity"), "critical");
                assert_eq!(attribute("reason"), "opened");
                publish.topic_arn() == Some(TOPIC)
                    && publish.message_structure() == Some("json")
                    && publish.subject() == Some("[critical] app is silent")
            })
            .then_output(|| PublishOutput::builder().message_id("1").build());
        publish(&aws(&rule), TOPIC, &message()).await.unwrap();
    }

    #[tokio::test]
    async fn subscriptions_are_counted_in_one_call() {
        use aws_sdk_sns::operation::get_topic_attributes::GetTopicAttributesOutput;
        let rule = mock!(Client::get_topic_attributes)
            .match_requests(|get| get.topic_arn() == Some(TOPIC))
            .sequence()
            .output(|| {
                GetTopicAttributesOutput::builder()
                    .attributes("SubscriptionsConfirmed", "2")
                    .attributes("SubscriptionsPending", "1")
                    .build()
            })
            .output(|| GetTopicAttributesOutput::builder().build())
            .http_status(
                403,
                xml_error(
                    "AuthorizationError",
                    "User: arn:aws:sts::1:assumed-role/R/S is not authorized to perform: SNS:GetTopicAttributes on resource: arn:aws:sns:ap-northeast-1:123456789012:alerts because no identity-based policy allows the SNS:GetTopicAttributes action",
                ),
            )
            .build();
        let aws = aws(&rule);
        let counted = Readers {
            topic: TOPIC.to_owned(),
            confirmed: 2,
            pending: 1,
        };
        assert_eq!(readers(&aws, TOPIC).await, Ok(counted));
        // An answer without the figures is no zero.
        let unclear = readers(&aws, TOPIC).await.unwrap_err();
        assert_eq!(unclear.kind, Obstacle::Failed);
        let denied = readers(&aws, TOPIC).await.unwrap_err();
        assert_eq!(denied.kind, Obstacle::Denied);
        assert!(denied.detail.contains("SNS:GetTopicAttributes"), "{denied}");
    }

    #[tokio::test]
    async fn a_topic_is_asked_for_in_its_own_region() {
        for region in ["ap-northeast-1", "us-east-1"] {
            let (http, request) = capture_request(None);
            let topic = TOPIC.replace("ap-northeast-1", region);
            // The captured request is answered with nothing that SNS would say.
            let _ = publish(&testing::aws_over(http), &topic, &message()).await;
            let request = request.expect_request();
            let signature = request.headers().get("authorization").unwrap();
            assert!(
                signature.contains(&format!("/{region}/sns/")),
                "{signature}"
            );
        }
    }

    #[tokio::test]
    async fn an_attribute_without_a_value_is_left_out() {
        let rule = mock!(Client::publish)
            .match_requests(|publish| publish.message_attributes().unwrap().len() == 3)
            .then_output(|| PublishOutput::builder().build());
        let mut message = message();
        message.notification.scheduler = String::new();
        publish(&aws(&rule), TOPIC, &message).await.unwrap();
    }

    #[tokio::test]
    async fn errors_name_the_topic_the_permission_or_the_key() {
        let cases = [
            (
                404,
                "NotFound",
                "Topic does not exist",
                Obstacle::Missing,
                "topic arn:aws:sns:ap-northeast-1:123456789012:alerts does not exist in ap-northeast-1: check `topic_arn` in [alerts], or WATCHDOG_TOPIC_ARN",
            ),
            (
                403,
                "AuthorizationError",
                "User: arn:aws:sts::1:assumed-role/R/S is not authorized to perform: SNS:Publish on resource: arn:aws:sns:ap-northeast-1:123456789012:alerts because no identity-based policy allows the SNS:Publish action",
                Obstacle::Denied,
                "SNS:Publish on arn:aws:sns:ap-northeast-1:123456789012:alerts is denied (no identity-based policy allows the SNS:Publish action): allow SNS:Publish to the watchdog's role",
            ),
            (
                400,
                "KMSAccessDenied",
                "null (Service: AWSKMS; Status Code: 400)",
                Obstacle::Denied,
                "sns:Publish on topic arn:aws:sns:ap-northeast-1:123456789012:alerts needs the key that encrypts it (KMSAccessDenied): allow kms:GenerateDataKey* and kms:Decrypt on that key to the watchdog's role",
            ),
            (
                400,
                "InvalidParameter",
                "Invalid parameter: TopicArn",
                Obstacle::Refused,
                "sns:Publish on topic arn:aws:sns:ap-northeast-1:123456789012:alerts in ap-northeast-1 is refused (InvalidParameter: Invalid parameter: TopicArn): check `topic_arn` in [alerts], or WATCHDOG_TOPIC_ARN",
            ),
        ];
        for (status, code, said, kind, detail) in cases {
            let rule = mock!(Client::publish)
                .sequence()
                .http_status(status, xml_error(code, said))
                .build();
            let error = publish(&aws(&rule), TOPIC, &message()).await.unwrap_err();
            assert_eq!(error, CallError::new(kind, detail));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_fault_is_tried_again() {
        let rule = mock!(Client::publish)
            .sequence()
            .http_status(500, None)
            .http_status(503, xml_error("ServiceUnavailable", "slow down"))
            .output(|| PublishOutput::builder().build())
            .build();
        publish(&aws(&rule), TOPIC, &message()).await.unwrap();
        assert_eq!(rule.num_calls(), 3);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_stays_well_formed() {
        let mut message = message();
        message.text = "\u{7}\"漢".repeat(100_000);
        message.chat = json!({ "version": "1.0", "content": "\"\\".repeat(200_000) });
        message.machine = json!({ "version": 3, "evidence": "\"\n".repeat(200_000) });
        let body = body(&message);
        assert!(body.len() <= MOST_BYTES, "{}", body.len());
        let texts = texts(&body);
        for key in ["default", "http", "sqs", "lambda", "https"] {
            let json: Value = serde_json::from_str(texts[key].as_str().unwrap()).unwrap();
            assert_eq!(json["id"], "app/1", "{key}");
        }
        let machine: Value = serde_json::from_str(texts["sqs"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&machine["version"], &machine["truncated"]),
            (&json!(3), &json!(true))
        );
    }

    proptest! {
        #[test]
        fn a_subject_keeps_the_rules_of_sns(text in "\\PC{0,200}|.{0,200}|\\s{0,9}[ -~]{90,110}") {
            let subject = subject(&text);
            prop_assert!((1..=MOST_SUBJECT).contains(&subject.len()), "{subject:?}");
            prop_assert!(subject.bytes().all(|b| (b' '..=b'~').contains(&b)), "{subject:?}");
            prop_assert!(!subject.starts_with(' ') && !subject.ends_with(' '), "{subject:?}");
        }

        #[test]
        fn no_message_is_longer_than_sns_takes(text in "\\PC{0,50}|.{0,50}", times in 1_usize..4_000) {
            let mut message = message();
            message.text = text.repeat(times);
            message.notification.id.clone_from(&message.text);
            message.machine = json!({ "version": message.text });
            prop_assert!(body(&message).len() <= MOST_BYTES);
        }
    }
}
