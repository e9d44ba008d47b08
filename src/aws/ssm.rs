//! The configuration's text in the SSM Parameter Store.

use super::Aws;
use super::obstacle::Call;
use crate::config::Origin;
use crate::snapshot::{CallError, Obstacle};

impl Aws {
    /// Gets the configuration's text where it is in the Parameter Store; other origins are
    /// returned as they are.
    ///
    /// # Errors
    /// The parameter cannot be had. Where a retry does not help, that is a mistake in the
    /// configuration.
    pub async fn fetch(&self, origin: Origin) -> Result<Origin, CallError> {
        let Origin::Ssm(name) = origin else {
            return Ok(origin);
        };
        let text = self.parameter(&name).await?;
        let name = format!("ssm:{name}");
        Ok(Origin::Text { name, text })
    }

    /// The value of a parameter, decrypted. For `WATCHDOG_CONFIG=ssm:NAME`.
    ///
    /// Needs `ssm:GetParameter` on the parameter, and `kms:Decrypt` on its key where it is a
    /// SecureString under a key of one's own.
    ///
    /// # Errors
    /// It does not exist, may not be read, or AWS does not answer.
    pub async fn parameter(&self, name: &str) -> Result<String, CallError> {
        let call = Call {
            action: "ssm:GetParameter",
            thing: &format!("parameter `{name}`"),
            remedy: "check WATCHDOG_CONFIG",
            region: self.region(),
        };
        let answer = (self.ssm().get_parameter())
            .name(name)
            .with_decryption(true)
            .send()
            .await
            .map_err(|error| call.error(&error))?;
        (answer.parameter.and_then(|parameter| parameter.value))
            .ok_or_else(|| call.because(Obstacle::Missing, "has no value"))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ssm::Client;
    use aws_sdk_ssm::operation::get_parameter::GetParameterOutput;
    use aws_sdk_ssm::types::Parameter;
    use aws_smithy_mocks::{Rule, mock};

    use super::*;
    use crate::aws::testing::{self, json_error};

    async fn read(rule: &Rule) -> Result<String, CallError> {
        let aws = testing::aws();
        aws.ssm.set(testing::ssm(&[rule])).unwrap();
        aws.parameter("/watchdog/config").await
    }

    #[tokio::test]
    async fn a_parameter_is_read_decrypted() {
        let rule = mock!(Client::get_parameter)
            .match_requests(|ask| {
                ask.name() == Some("/watchdog/config") && ask.with_decryption() == Some(true)
            })
            .then_output(|| {
                let parameter = Parameter::builder().value("[[scheduler]]").build();
                GetParameterOutput::builder().parameter(parameter).build()
            });
        assert_eq!(read(&rule).await, Ok("[[scheduler]]".to_owned()));
    }

    #[tokio::test]
    async fn a_parameter_that_is_not_there_is_named() {
        let missing = mock!(Client::get_parameter)
            .sequence()
            .http_status(400, json_error("ParameterNotFound", ""))
            .build();
        insta::assert_snapshot!(read(&missing).await.unwrap_err(), @"missing: parameter `/watchdog/config` does not exist in ap-northeast-1: check WATCHDOG_CONFIG");
        let empty =
            mock!(Client::get_parameter).then_output(|| GetParameterOutput::builder().build());
        insta::assert_snapshot!(read(&empty).await.unwrap_err(), @"missing: parameter `/watchdog/config` has no value in ap-northeast-1: check WATCHDOG_CONFIG");
    }
}
