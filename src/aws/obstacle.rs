//! An error of the SDK → [`CallError`]: what stood in the way, and what a person can do.

use std::error::Error;

use aws_sdk_ecs::config::http::HttpResponse;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};

use crate::snapshot::{CallError, Obstacle};

/// The longest detail, in bytes. It goes into messages and into the state document.
const MOST_BYTES: usize = 500;

/// What was called, in a person's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// The IAM action: `logs:StartQuery`.
    pub action: &'a str,
    /// What it was called on: "log group `/ecs/app`".
    pub thing: &'a str,
    /// Where to look if that does not exist or is refused: "check `log_groups`".
    pub remedy: &'a str,
    /// The region that was asked.
    pub region: &'a str,
}

impl Call<'_> {
    /// Judges an error of the SDK.
    pub fn error<E>(&self, error: &SdkError<E, HttpResponse>) -> CallError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let code = error.code().unwrap_or_default();
        let said = said(code, error.message().unwrap_or_default());
        let kind = kind(error, code);
        // An error that no service sent has no code.
        let why = if code.is_empty() && said.is_empty() {
            chain(error)
        } else {
            join(code, &said)
        };
        let Self {
            action,
            thing,
            remedy,
            region,
        } = self;
        match kind {
            Obstacle::Denied => self.denied(error, code, &said),
            Obstacle::Missing => self.because(kind, "does not exist"),
            Obstacle::Throttled => CallError::new(
                kind,
                bounded(&format!(
                    "{action} on {thing} is throttled by AWS ({why}): the next pass tries again"
                )),
            ),
            Obstacle::TimedOut => CallError::new(
                kind,
                bounded(&format!(
                    "{action} on {thing} got no answer in time ({why}): the next pass tries again"
                )),
            ),
            Obstacle::Refused => CallError::new(
                kind,
                bounded(&format!(
                    "{action} on {thing} in {region} is refused ({why}): {remedy}"
                )),
            ),
            Obstacle::Failed => CallError::new(
                kind,
                bounded(&format!(
                    "{action} on {thing} failed ({why}): the next pass tries again"
                )),
            ),
        }
    }

    /// An obstacle in the thing itself: "service `x` does not exist in REGION: REMEDY".
    pub fn because(&self, kind: Obstacle, what: &str) -> CallError {
        let Self {
            thing,
            remedy,
            region,
            ..
        } = self;
        CallError::new(
            kind,
            bounded(&format!("{thing} {what} in {region}: {remedy}")),
        )
    }

    fn denied<E>(&self, error: &SdkError<E, HttpResponse>, code: &str, said: &str) -> CallError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let detail = if matches!(error, SdkError::DispatchFailure(_)) {
            no_credentials(&causes(error)).to_owned()
        } else if is_about_credentials(code) {
            format!(
                "AWS does not accept the credentials for {} ({code}): renew them",
                self.action
            )
        } else if code.starts_with("KMS") {
            format!(
                "{} on {} needs the key that encrypts it ({code}): allow kms:GenerateDataKey* \
                 and kms:Decrypt on that key to the watchdog's role",
                self.action, self.thing
            )
        } else {
            let refusal = Refusal::read(said);
            let action = refusal.action.unwrap_or(self.action);
            let thing = refusal.resource.unwrap_or(self.thing);
            let why = refusal.why.unwrap_or("access denied");
            format!("{action} on {thing} is denied ({why}): allow {action} to the watchdog's role")
        };
        CallError::new(Obstacle::Denied, bounded(&detail))
    }
}

/// What is to be done where nothing could be signed. That is the same for every call, and the SDK's own
/// words tell of all the places where it looked. No word here stands before a colon: what follows
/// "credentials:" is hidden from people.
fn no_credentials(why: &str) -> &'static str {
    if why.contains("expired") {
        "the AWS credentials have expired; renew them (`aws sso login`)"
    } else {
        "there are no AWS credentials; set AWS_PROFILE (after `aws sso login`), or AWS_ACCESS_KEY_ID \
         and AWS_SECRET_ACCESS_KEY, or give the function a role"
    }
}

/// What IAM says: "User: U is not authorized to perform: A on resource: R because W".
#[derive(Debug, Default, PartialEq)]
struct Refusal<'a> {
    action: Option<&'a str>,
    resource: Option<&'a str>,
    why: Option<&'a str>,
}

impl<'a> Refusal<'a> {
    fn read(said: &'a str) -> Self {
        let Some((_, rest)) = said.split_once("not authorized to perform: ") else {
            return Self::default();
        };
        let (action, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (resource, why) = match rest.strip_prefix("on resource: ") {
            Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
            None => ("", rest),
        };
        let why = why.strip_prefix("because ").unwrap_or(why);
        let given = |text: &'a str| {
            let text = text.trim_matches(['"', '\'', '.', ',', ' ']);
            (!text.is_empty()).then_some(text)
        };
        Self {
            action: given(action).filter(|action| action.contains(':')),
            resource: given(resource),
            why: given(why),
        }
    }
}

fn kind<E>(error: &SdkError<E, HttpResponse>, code: &str) -> Obstacle {
    match error {
        SdkError::TimeoutError(_) => Obstacle::TimedOut,
        SdkError::DispatchFailure(failure) => {
            let why = failure.as_connector_error().map(|error| causes(error));
            if failure.is_timeout() {
                Obstacle::TimedOut
            } else if why.is_some_and(|why| why.contains("credential")) {
                Obstacle::Denied
            } else {
                Obstacle::Failed
            }
        }
        // The request was never sent: something in it cannot be put into words of the API.
        SdkError::ConstructionFailure(_) => Obstacle::Refused,
        SdkError::ServiceError(answer) => {
            by_code(code).unwrap_or_else(|| by_status(answer.raw().status().as_u16()))
        }
        _ => Obstacle::Failed,
    }
}

/// The codes that the services' models name for the calls that are made here, and the common
/// ones of AWS's APIs.
fn by_code(code: &str) -> Option<Obstacle> {
    Some(match code {
        // The limit of Insights is one on queries at once, which passes.
        "LimitExceededException"
        | "ServiceUnavailableException"
        | "ServiceUnavailable"
        | "SlowDown"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete"
        | "ProvisionedThroughputExceededException" => Obstacle::Throttled,
        code if code.contains("Throttl") => Obstacle::Throttled,
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthorizationError"
        | "AuthorizationErrorException"
        | "NotAuthorized"
        | "UnauthorizedOperation"
        | "OptInRequired"
        | "KMSAccessDenied"
        | "KMSAccessDeniedException"
        | "KMSOptInRequired" => Obstacle::Denied,
        code if is_about_credentials(code) => Obstacle::Denied,
        "NotFound"
        | "NotFoundException"
        | "ResourceNotFoundException"
        | "ClusterNotFoundException"
        | "ServiceNotFoundException"
        | "TaskDefinitionNotFoundException"
        | "ParameterNotFound" => Obstacle::Missing,
        "RequestTimeout" | "RequestTimeoutException" => Obstacle::TimedOut,
        "InternalError"
        | "InternalErrorException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServerException" => Obstacle::Failed,
        _ => return None,
    })
}

fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
    )
}

fn by_status(status: u16) -> Obstacle {
    match status {
        401 | 403 => Obstacle::Denied,
        408 | 504 => Obstacle::TimedOut,
        429 | 503 => Obstacle::Throttled,
        400..=499 => Obstacle::Refused,
        _ => Obstacle::Failed,
    }
}

/// What AWS said, without what must not be shown. A signature error quotes the whole request,
/// session token included; of the others only the first line is kept.
fn said(code: &str, message: &str) -> String {
    if is_about_credentials(code) {
        return String::new();
    }
    redacted(message.lines().next().unwrap_or_default().trim())
}

fn join(code: &str, said: &str) -> String {
    match (code.is_empty(), said.is_empty()) {
        (_, true) => code.to_owned(),
        (true, false) => said.to_owned(),
        (false, false) => format!("{code}: {}", said.trim_end_matches('.')),
    }
}

/// The causes of an error that has no code, outermost first.
fn chain(error: &(dyn Error + 'static)) -> String {
    redacted(&causes(error))
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Wrappers often repeat what they wrap.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// Replaces words that look like a key or a token: access key ids, and long runs of mixed
/// letters and digits without the separators that names and ARNs have.
fn redacted(text: &str) -> String {
    text.split_inclusive(|c: char| c.is_whitespace() || "\"'`,;:&?=()".contains(c))
        .map(|word| {
            let body = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if looks_secret(body) {
                word.replacen(body, "[redacted]", 1)
            } else {
                word.to_owned()
            }
        })
        .collect()
}

fn looks_secret(word: &str) -> bool {
    let is_key_id = word.len() == 20 && (word.starts_with("AKIA") || word.starts_with("ASIA"));
    let is_token = word.len() >= 40
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
        && word.bytes().any(|b| b.is_ascii_uppercase())
        && word.bytes().any(|b| b.is_ascii_lowercase())
        && word.bytes().any(|b| b.is_ascii_digit());
    is_key_id || is_token
}

/// One line of at most [`MOST_BYTES`].
pub(super) fn bounded(text: &str) -> String {
    let line: String = (text.chars())
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(&line, MOST_BYTES)
}

/// The text, or its beginning and an ellipsis, at most `most` bytes in all.
pub(super) fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::error::{ConnectorError, ErrorMetadata};
    use aws_sdk_ecs::operation::update_service::UpdateServiceError;
    use proptest::prelude::*;

    use super::*;

    const CALL: Call<'_> = Call {
        action: "ecs:UpdateService",
        thing: "service `app` in cluster `main`",
        remedy: "check [scheduler.ecs]",
        region: "ap-northeast-1",
    };

    type Fault = SdkError<UpdateServiceError, HttpResponse>;

    fn answered(status: u16, code: &str, message: &str) -> Fault {
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        let raw = HttpResponse::new(status.try_into().unwrap(), "".into());
        Fault::service_error(UpdateServiceError::generic(meta), raw)
    }

    fn judged(status: u16, code: &str, message: &str) -> CallError {
        CALL.error(&answered(status, code, message))
    }

    #[test]
    fn every_code_has_its_kind() {
        use Obstacle::*;
        let table = [
            (
                Throttled,
                "ThrottlingException Throttling LimitExceededException ServiceUnavailableException TooManyRequestsException RequestLimitExceeded ProvisionedThroughputExceededException KMSThrottling",
            ),
            (
                Denied,
                "AccessDeniedException AccessDenied AuthorizationError UnauthorizedOperation KMSAccessDenied ExpiredTokenException UnrecognizedClientException InvalidClientTokenId InvalidSignatureException",
            ),
            (
                Missing,
                "ResourceNotFoundException ClusterNotFoundException ServiceNotFoundException NotFound ParameterNotFound",
            ),
            (
                Refused,
                "MalformedQueryException InvalidParameterException ValidationException InvalidParameter ClientException KMSDisabled SomethingNew",
            ),
            (
                Failed,
                "ServerException InternalServerError InternalFailure",
            ),
            (TimedOut, "RequestTimeout"),
        ];
        for (kind, codes) in table {
            for code in codes.split(' ') {
                let error = judged(400, code, "said");
                assert_eq!(error.kind, kind, "{code}: {error}");
            }
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        use Obstacle::*;
        for (status, kind) in [
            (400, Refused),
            (401, Denied),
            (403, Denied),
            (404, Refused),
            (408, TimedOut),
            (429, Throttled),
            (500, Failed),
            (503, Throttled),
            (504, TimedOut),
        ] {
            assert_eq!(judged(status, "New", "").kind, kind, "{status}");
        }
    }

    #[test]
    fn a_refusal_by_iam_names_action_resource_and_reason() {
        let said = "User: arn:aws:sts::123456789012:assumed-role/watchdog/watchdog is not authorized to perform: ecs:UpdateService on resource: arn:aws:ecs:ap-northeast-1:123456789012:service/main/app because no identity-based policy allows the ecs:UpdateService action";
        insta::assert_snapshot!(judged(400, "AccessDeniedException", said), @"denied: ecs:UpdateService on arn:aws:ecs:ap-northeast-1:123456789012:service/main/app is denied (no identity-based policy allows the ecs:UpdateService action): allow ecs:UpdateService to the watchdog's role");
        let said = "User: arn:aws:iam::1:user/u is not authorized to perform: ecs:UpdateService on resource: arn:aws:ecs:r:1:service/main/app with an explicit deny in a service control policy";
        insta::assert_snapshot!(judged(400, "AccessDeniedException", said), @"denied: ecs:UpdateService on arn:aws:ecs:r:1:service/main/app is denied (with an explicit deny in a service control policy): allow ecs:UpdateService to the watchdog's role");
        // RunTask is refused for the role that it would pass.
        let said = "User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/task";
        insta::assert_snapshot!(judged(400, "AccessDeniedException", said), @"denied: iam:PassRole on arn:aws:iam::1:role/task is denied (access denied): allow iam:PassRole to the watchdog's role");
        // Where AWS says nothing, the call itself is named, also if somebody between says no.
        insta::assert_snapshot!(judged(403, "", ""), @"denied: ecs:UpdateService on service `app` in cluster `main` is denied (access denied): allow ecs:UpdateService to the watchdog's role");
        insta::assert_snapshot!(judged(403, "AccessDenied", ""), @"denied: ecs:UpdateService on service `app` in cluster `main` is denied (access denied): allow ecs:UpdateService to the watchdog's role");
    }

    #[test]
    fn other_obstacles_say_what_to_do() {
        insta::assert_snapshot!(judged(400, "ServiceNotFoundException", "Service not found."), @"missing: service `app` in cluster `main` does not exist in ap-northeast-1: check [scheduler.ecs]");
        insta::assert_snapshot!(judged(400, "InvalidParameterException", "Cannot force a new deployment on services with a CODE_DEPLOY deployment controller."), @"refused: ecs:UpdateService on service `app` in cluster `main` in ap-northeast-1 is refused (InvalidParameterException: Cannot force a new deployment on services with a CODE_DEPLOY deployment controller): check [scheduler.ecs]");
        insta::assert_snapshot!(judged(400, "ThrottlingException", "Rate exceeded"), @"throttled: ecs:UpdateService on service `app` in cluster `main` is throttled by AWS (ThrottlingException: Rate exceeded): the next pass tries again");
        insta::assert_snapshot!(judged(500, "ServerException", ""), @"failed: ecs:UpdateService on service `app` in cluster `main` failed (ServerException): the next pass tries again");
        insta::assert_snapshot!(judged(400, "ExpiredTokenException", "The security token included in the request is expired"), @"denied: AWS does not accept the credentials for ecs:UpdateService (ExpiredTokenException): renew them");
    }

    #[test]
    fn faults_on_the_way_are_told_apart() {
        let fault = |error: &Fault| CALL.error(error).to_string();
        insta::assert_snapshot!(fault(&Fault::timeout_error("operation timeout (all attempts) occurred after 15s")), @"timed out: ecs:UpdateService on service `app` in cluster `main` got no answer in time (request has timed out: operation timeout (all attempts) occurred after 15s): the next pass tries again");
        insta::assert_snapshot!(fault(&Fault::dispatch_failure(ConnectorError::timeout("connect".into()))), @"timed out: ecs:UpdateService on service `app` in cluster `main` got no answer in time (dispatch failure: timeout: connect): the next pass tries again");
        insta::assert_snapshot!(fault(&Fault::dispatch_failure(ConnectorError::io("connection refused".into()))), @"failed: ecs:UpdateService on service `app` in cluster `main` failed (dispatch failure: io error: connection refused): the next pass tries again");
        let unsigned = |why: &str| {
            let told = fault(&Fault::dispatch_failure(ConnectorError::other(
                why.into(),
                None,
            )));
            assert_eq!(
                crate::message::safe::evidence(&told),
                told,
                "nothing is hidden"
            );
            told
        };
        insta::assert_snapshot!(unsigned("no providers in chain provided credentials"), @"denied: there are no AWS credentials; set AWS_PROFILE (after `aws sso login`), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the function a role");
        insta::assert_snapshot!(unsigned("credentials: the SSO session has expired"), @"denied: the AWS credentials have expired; renew them (`aws sso login`)");
        insta::assert_snapshot!(fault(&Fault::construction_failure("no cluster")), @"refused: ecs:UpdateService on service `app` in cluster `main` in ap-northeast-1 is refused (failed to construct request: no cluster): check [scheduler.ecs]");
    }

    #[test]
    fn secrets_stay_inside() {
        // A signature error quotes the request, its session token included.
        let said = "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:IQoJb3JpZ2luX2VjEXAMPLE\n'";
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch", "New"] {
            assert!(!judged(400, code, said).detail.contains("IQoJ"), "{code}");
        }
        let said = "bad id AKIAIOSFODNN7EXAMPLE and secret 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', token=FwoGZXIvYXdzEBYaDKL3m9pQ2sT5uV8wX1yZ4aB7cD0eF3gH6i==.";
        let detail = judged(400, "InvalidParameterException", said).detail;
        for secret in ["AKIA", "wJalr", "FwoG"] {
            assert!(!detail.contains(secret), "{detail}");
        }
        // Names and ARNs are no secrets.
        let said = "arn:aws:ecs:ap-northeast-1:123456789012:task/myteacher-production-cluster/0123456789abcdef0123456789abcdef /aws/ecs/MyTeacher-production-1";
        assert_eq!(redacted(said), said);
    }

    proptest! {
        #[test]
        fn every_detail_is_one_bounded_line(code in ".{0,40}|AccessDeniedException|NotFound|ThrottlingException", said in ".{0,900}|(漢|\n|perform: |not authorized to ){0,300}", status in 400_u16..600) {
            let detail = judged(status, &code, &said).detail;
            prop_assert!(!detail.is_empty() && detail.len() <= MOST_BYTES, "{} bytes", detail.len());
            prop_assert!(!detail.chars().any(char::is_control), "{detail:?}");
        }
    }
}
