//! What messages hide of what others printed, and what they still show.

use std::fmt::Write as _;

use scheduler_watchdog::message::safe;

/// Texts as logs hold them; what must not be told stands between `«` and `»`. The tokens are
/// made up, in the shapes that their makers document.
const SECRETS: &[(&str, &[&str])] = &[
    (
        "Keys of AWS",
        &[
            "The AWS Access Key Id «AKIAIOSFODNN7EXAMPLE» does not exist in our records",
            "using ASIA key «ASIAIOSFODNN7EXAMPLE»",
            "aws_secret_access_key = «wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»",
            "AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY» php artisan x",
            "AWS_SESSION_TOKEN: «FwoGZXIvYXdzEXAMPLE//////////wEaDEXAMPLE»",
            "secret «wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY» is wrong",
            "GET https://b.s3.amazonaws.com/k?X-Amz-Signature=«fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024»&X-Amz-Expires=60",
        ],
    ),
    (
        "Headers and cookies",
        &[
            "Authorization: «Bearer abc.def-ghi_jkl»",
            "Authorization: «Basic dXNlcjpwYXNzd29yZA==»",
            "sent Bearer «abcdefghijklmnop» to the API",
            "{\"headers\":{\"X-Api-Key\":\"«k-123456»\"}}",
            "Cookie: «laravel_session=eyJpdiI6IkFBQUEi; XSRF-TOKEN=eyJpdiI6IkJCQkIi»",
            "Set-Cookie: «PHPSESSID=q1w2e3r4t5; path=/; HttpOnly»",
            "GET /x?PHPSESSID=«q1w2e3r4t5»",
        ],
    ),
    (
        "Tokens that can be told by their shape",
        &[
            "token «eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N» expired",
            "github «ghp_EXAMPLEEXAMPLEEXAMPLEEXAMPLE0000» rejected",
            "stripe «sk_live_EXAMPLEEXAMPLE0000» rejected",
            "POST https://hooks.slack.com/«services/T00000000/B00000000/EXAMPLEEXAMPLEEXAMPLE» failed",
            "POST https://discord.com/api/webhooks/«1000000000/EXAMPLE-EXAMPLE» failed",
        ],
    ),
    (
        "Keys and values",
        &[
            "DB_PASSWORD=«hunter2»",
            "REDIS_PASSWORD: '«two words»'",
            "{\"user\":\"app\",\"password\":\"«hunter2»\"}",
            "{\\\"api_key\\\":\\\"«abc def»\\\",\\\"n\\\":1}",
            "'secret' => '«hunter2»', 'driver' => 's3'",
            "APP_KEY=«base64:2fl+Ktvkfl+Fuz4Qp/A75G2RTiWVA/ZoKZvp6fiiM10=»",
            "key «base64:2fl+Ktvkfl+Fuz4Qp/A75G2RTiWVA/ZoKZvp6fiiM10=» is malformed",
            "pgsql:host=db;dbname=app;user=app;pass=«hunter2»",
            "REDISCLI_AUTH=«hunter2» redis-cli ping",
            "<ns:Password>«hunter2»</ns:Password>",
            "パスワード：«ひみつ123»",
            "client_secret=«abc»&grant_type=password",
        ],
    ),
    (
        "Arguments",
        &[
            "mysql -u root -p«hunter2» app",
            "mysqldump --password=«hunter2» app",
            "php artisan user:create --password «hunter2»",
            "redis-cli -h redis -a «hunter2» ping",
            "curl -u «app:hunter2» https://example.com/",
            "CREATE USER app IDENTIFIED BY «'hunter2'»",
        ],
    ),
    (
        "Addresses with credentials",
        &[
            "redis://default:«p@ss/word»@redis.internal:6379/0",
            "mysql://app:«hunter2»@db.internal/app",
            "https://«0123456789abcdef»@o1.ingest.sentry.io/2",
            "amqp://guest:«guest1»@mq:5672/%2f",
        ],
    ),
    (
        "Statements and their values",
        &[
            "SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry '«alice-1»' for key 'users_name' (Connection: mysql, SQL: «insert into users (name, pin) values (alice-1, 4711)»)",
            "SQLSTATE[42S02]: Base table or view not found: 1146 Table 'app.jobs' doesn't exist (SQL: «select * from jobs where pin = 4711»)",
            "DETAIL:  «Key (name)=(alice) already exists.»",
            "ERROR: duplicate key value violates unique constraint \"users_name\" Key (name)=«(alice)» already exists.",
            "invalid input syntax for type integer: «\"alice\"»",
        ],
    ),
    (
        "Stack frames",
        &[
            "#0 /app/vendor/laravel/framework/src/Illuminate/Database/Connectors/Connector.php(70): PDO->__construct(«'mysql:host=db', 'app', 'hunter2', Array»)",
            "#3 /app/vendor/x/PhpRedisConnector.php(161): Redis->auth(«'hunter2'»)",
        ],
    ),
    (
        "Private keys",
        &[
            "«-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----» cannot be read",
            "«-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA»",
        ],
    ),
    (
        "In disguise",
        &[
            "pass\u{200b}word=«hunter2»",
            "\u{1b}[31mpassword\u{1b}[0m=«hunter2»",
            "pass\u{0}word=\u{202e}«hunter2»",
        ],
    ),
];

/// What proves a cause stays readable.
const PROOFS: &[&str] = &[
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled. [tcp://127.0.0.1:6390]",
    "READONLY You can't write against a read only replica.",
    "SQLSTATE[HY000] [1045] Access denied for user 'laravel'@'localhost' (using password: YES)",
    "SQLSTATE[08006] [7] connection to server at \"db.internal\", port 5432 failed: FATAL: password authentication failed for user \"laravel\"",
    "SQLSTATE[HY000] [2002] php_network_getaddresses: getaddrinfo for db.internal failed: Name or service not known",
    "Password: su: Authentication failure",
    "Class \"App\\Services\\Billing\\TokenRepository\" not found",
    "syntax error, unexpected token \"}\", expecting \"(\"",
    "sh: 1: cannot create /var/log/scheduler.log: Permission denied",
    "Allowed memory size of 134217728 bytes exhausted (tried to allocate 20480 bytes)",
    "task 0123456789abcdef0123456789abcdef: Essential container in task exited; app exit code 137",
    "CannotPullContainerError: 123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef: not found",
    "ResourceInitializationError: unable to pull secrets or registry auth: timed out",
    "Scheduled command ['artisan' auth:monitor-dual-auth --alert] failed with exit code [1].",
    "#0 /app/artisan(37): {main}",
];

/// What cannot be seen, or would break the table's lines, as its code.
fn visible(text: &str) -> String {
    (text.chars())
        .map(|char| match char {
            '"' | '\'' | '\\' => char.to_string(),
            other => other.escape_debug().to_string(),
        })
        .collect()
}

/// The texts without the marks, and what stood between them.
fn unmarked(text: &str) -> (String, Vec<&str>) {
    let secrets = (text.split('«').skip(1))
        .filter_map(|rest| rest.split('»').next())
        .collect();
    (text.replace(['«', '»'], ""), secrets)
}

#[test]
fn what_is_hidden_and_what_is_shown() {
    let mut table = String::new();
    for (kind, texts) in SECRETS {
        let _ = writeln!(table, "# {kind}\n");
        for text in *texts {
            let (text, secrets) = unmarked(text);
            let shown = safe::evidence(&text);
            assert!(!secrets.is_empty(), "nothing is marked in {text}");
            for secret in secrets {
                assert!(!shown.contains(secret), "{secret} is told: {shown}");
            }
            assert_eq!(safe::evidence(&shown), shown, "hidden twice");
            let _ = writeln!(table, "  {}\n→ {shown}\n", visible(&text));
        }
    }
    insta::assert_snapshot!("hidden", table);
    for text in PROOFS {
        assert_eq!(safe::evidence(text), *text);
    }
}

#[test]
fn addresses_of_people_are_hidden() {
    for (text, shown) in [
        ("to alice@example.com failed", "to [hidden] failed"),
        ("<a.b+c@mail.example.co.jp>", "<[hidden]>"),
        ("?to=alice%40example.com&n=1", "?to=[hidden]&n=1"),
        ("ありす@例え.テスト です", "[hidden] です"),
        ("ali\u{200b}ce@exam\u{200b}ple.com", "[hidden]"),
        ("cut off: alice@exam…", "cut off: [hidden]"),
    ] {
        assert_eq!(safe::hide_emails(text), shown);
    }
    for text in [
        "Access denied for user 'laravel'@'localhost'",
        "root@localhost",
        "app@sha256:0123456789abcdef",
        "user@10.0.0.5",
        "@here and @channel",
    ] {
        assert_eq!(safe::hide_emails(text), text);
    }
}
