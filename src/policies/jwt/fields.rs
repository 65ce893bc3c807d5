//! What people are told of the configuration.

use crate::policies::Field;

pub const FIELDS: &[Field] = &[
    Field::new("jwtOrigin", "Origin of the token", "Where the token stands.").default("httpBearerAuthenticationHeader"),
    Field::new(
        "jwtExpression",
        "Token expression",
        "With `customExpression`: gives the token. Null, `''` or a failure: there is none.",
    )
    .default("#[attributes.headers['jwt']]")
    .expression()
    .when("jwtOrigin", "customExpression"),
    Field::new(
        "signingMethod",
        "Signing method",
        "How tokens are signed. With `none` no signature is looked at, and anybody can make up a token.",
    )
    .default("rsa"),
    Field::new("signingKeyLength", "Length of the hash", "Of the hash; with `es` 256 (P-256) or 384 (P-384).")
        .default("256")
        .unit("bits")
        .values(&["256", "384", "512"]),
    Field::new(
        "jwtKeyOrigin",
        "Origin of the key",
        "Where the key comes from. `text`: `textKey`. `jwks`: the sets at `jwksUrl`. `customExpression`: \
             `customKeyExpression`.",
    )
    .default("text"),
    Field::new(
        "textKey",
        "Key",
        "HMAC: the secret itself, at least 32, 48 or 64 characters for the three lengths. RSA (2048 to \
             8192 bits), EC, Ed25519: the public key in PEM, with its first and last line or without. \
             `$NAME` takes it from the environment.",
    )
    .sensitive()
    .when("jwtKeyOrigin", "text"),
    Field::new(
        "customKeyExpression",
        "Key expression",
        "With `customExpression`: gives the key, as `textKey` would have it.",
    )
    .expression()
    .when("jwtKeyOrigin", "customExpression"),
    Field::new(
        "jwksUrl",
        "Key sets",
        "Where issuers publish their keys; commas between several. RFC 7517, at most 16 addresses.",
    )
    .when("jwtKeyOrigin", "jwks"),
    Field::new("jwksServiceTimeToLive", "Life of a key set", "A key set is fetched anew before it is so old.")
        .default("60")
        .unit("minutes")
        .at_least(1)
        .when("jwtKeyOrigin", "jwks"),
    Field::new("jwksServiceConnectionTimeout", "Time-out of a fetch", "Of one fetch, from its name to the last byte.")
        .default("10000")
        .unit("milliseconds")
        .at_least(1)
        .when("jwtKeyOrigin", "jwks"),
    Field::new(
        "validateAudClaim",
        "Validate the audience",
        "An `aud` must be one of `supportedAudiences`, or a list with one of them.",
    )
    .default("false"),
    Field::new("mandatoryAudClaim", "Audience is mandatory", "The claim must be there.").default("false"),
    Field::new("supportedAudiences", "Audiences", "With commas between them.").when("validateAudClaim", "true"),
    Field::new("mandatoryExpClaim", "Expiry is mandatory", "The claim must be there. `exp` is checked wherever it is.")
        .default("false"),
    Field::new("mandatoryNbfClaim", "Begin is mandatory", "The claim must be there. `nbf` is checked wherever it is.")
        .default("false"),
    Field::new("validateCustomClaim", "Validate custom claims", "The two lists below count.").default("false"),
    Field::new("mandatoryCustomClaims", "Mandatory custom claims", "The claim `key` must be there, and be `value`.")
        .when("validateCustomClaim", "true"),
    Field::new("mandatoryCustomClaims[].key", "Claim", "Not empty."),
    Field::new("mandatoryCustomClaims[].value", "Value", "What the claim must be.").expression(),
    Field::new("nonMandatoryCustomClaims", "Other custom claims", "The claim `key` must be `value` if it is there.")
        .when("validateCustomClaim", "true"),
    Field::new("nonMandatoryCustomClaims[].key", "Claim", "Not empty."),
    Field::new("nonMandatoryCustomClaims[].value", "Value", "What the claim must be.").expression(),
    Field::new(
        "skipClientIdValidation",
        "Skip the check of the client",
        "With `false` the token's client must have a Contract with this API, and becomes \
         `authentication.clientId` and `.clientName`, its tier `.slaId` and `.slaName`.",
    )
    .default("true"),
    Field::new("clientIdExpression", "Client id expression", "The client's id.")
        .default("#[vars.claimSet.client_id]")
        .expression()
        .when("skipClientIdValidation", "false"),
    Field::new(
        "claimsToHeaders",
        "Claims to headers",
        "Not implemented yet: with a list that is not empty requests get 503.",
    ),
    Field::new(
        "ringway.algorithms",
        "Algorithms",
        "In place of method and length, which then do not count. All must fit the one key; of a key set \
             each key does what it can.",
    )
    .values(&[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512",
    ]),
    Field::new(
        "ringway.jwksCoolDownSeconds",
        "Time between fetches",
        "The least time between two fetches that unknown keys give rise to.",
    )
    .default("30")
    .unit("seconds")
    .at_least(1)
    .when("jwtKeyOrigin", "jwks"),
];
