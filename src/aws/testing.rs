//! Clients that answer by rules, and what they answer.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{
    Credentials, HttpClient, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_mocks::Rule;

use super::Aws;

/// The AWS side without any client; tests set those that they expect to be used. A call to any
/// other finds nobody at its endpoint.
pub(super) fn aws() -> Aws {
    Aws::new(config(None)).unwrap()
}

/// The AWS side, set up as in production, over this HTTP client.
pub(super) fn aws_over(http: impl HttpClient + 'static) -> Aws {
    Aws::new(config(Some(SharedHttpClient::new(http)))).unwrap()
}

fn config(http: Option<SharedHttpClient>) -> SdkConfig {
    let credentials = Credentials::new("id", "secret", None, None, "tests");
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .endpoint_url("http://127.0.0.1:9")
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    config.set_http_client(http);
    config.build()
}

macro_rules! client {
    ($name:ident, $sdk:ident) => {
        /// A client that is set up as in production and answers by the first rule that
        /// matches and is not used up.
        pub(super) fn $name(rules: &[&Rule]) -> $sdk::Client {
            let aws = aws();
            let mut config = $sdk::config::Builder::from(&aws.config)
                .http_client(aws_smithy_mocks::create_mock_http_client());
            let mut answers = aws_smithy_mocks::MockResponseInterceptor::new()
                .rule_mode(aws_smithy_mocks::RuleMode::MatchAny);
            for rule in rules {
                answers = answers.with_rule(rule);
            }
            config = config.interceptor(answers);
            $sdk::Client::from_conf(config.build())
        }
    };
}

client!(logs, aws_sdk_cloudwatchlogs);
client!(ecs, aws_sdk_ecs);
client!(sns, aws_sdk_sns);
client!(dynamodb, aws_sdk_dynamodb);
client!(ssm, aws_sdk_ssm);

/// The body of an error in the JSON protocols.
pub(super) fn json_error(code: &str, message: &str) -> Option<String> {
    Some(serde_json::json!({ "__type": code, "message": message }).to_string())
}

/// The body of an error in SNS's protocol.
pub(super) fn xml_error(code: &str, message: &str) -> Option<String> {
    Some(format!(
        r#"<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"#
    ))
}
