//! How the clients reach AWS: what a Lambda function is told of it, and one HTTP client for all.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::config::Environment;
use crate::http::names::Names;

/// What a Lambda function is told of AWS, and all of it: variables. The SDK's own chain would also
/// look for files, containers and instances, and build a client for each before the first is needed:
/// half of what the function's start would compute.
pub(super) fn of_function(environment: &Environment) -> SdkConfig {
    let is_on = |name| {
        let value = environment.get(name)?;
        Some(value.eq_ignore_ascii_case("true"))
    };
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region((environment.get("AWS_REGION")).map(|region| Region::new(region.to_owned())))
        .credentials_provider(SharedCredentialsProvider::new(
            EnvironmentVariableCredentialsProvider::new(),
        ))
        .service_config(Endpoints(environment.clone()));
    config.set_endpoint_url(environment.get("AWS_ENDPOINT_URL").map(str::to_owned));
    config.set_use_fips(is_on("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"));
    config.build()
}

/// Endpoints of single services, such as `AWS_ENDPOINT_URL_DYNAMODB`.
#[derive(Debug)]
struct Endpoints(Environment);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        let value = self.0.get(&format!("{}_{service}", key.env()))?;
        Some(value.to_owned())
    }
}

/// One client for all services, made as the SDK makes one for each: the certificates that are
/// trusted are read once.
pub(super) fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build_with_resolver(Names::All)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> SdkConfig {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        of_function(&Environment::of(variables.iter().map(own)))
    }

    #[test]
    fn what_lambda_tells_is_enough() {
        let config = config(&[("AWS_REGION", "ap-northeast-1")]);
        assert_eq!(config.region(), Some(&Region::new("ap-northeast-1")));
        assert_eq!((config.endpoint_url(), config.use_fips()), (None, None));
    }

    #[test]
    fn endpoints_can_be_elsewhere() {
        let config = config(&[
            ("AWS_REGION", "us-gov-west-1"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "false"),
            ("AWS_ENDPOINT_URL", "https://aws.internal"),
            ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "https://logs.internal"),
        ]);
        assert_eq!(config.use_fips(), Some(true));
        assert_eq!(config.use_dual_stack(), Some(false));
        assert_eq!(config.endpoint_url(), Some("https://aws.internal"));
        let own = |service: &str| {
            let key = ServiceConfigKey::builder()
                .service_id(service)
                .env("AWS_ENDPOINT_URL")
                .profile("endpoint_url")
                .build();
            config.service_config()?.load_config(key.unwrap())
        };
        let logs = own("CloudWatch Logs");
        assert_eq!(logs.as_deref(), Some("https://logs.internal"));
        assert_eq!(own("DynamoDB"), None);
    }
}
