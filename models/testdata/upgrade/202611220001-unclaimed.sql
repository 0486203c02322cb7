CREATE TABLE apps (
    name text NOT NULL,
    logout_url text NOT NULL,
    send text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE attempts (
    key bytea NOT NULL,
    failures bigint NOT NULL,
    retry_at timestamp with time zone NOT NULL,
    forget_at timestamp with time zone NOT NULL
);

CREATE TABLE credentials (
    identity_id uuid NOT NULL,
    method text NOT NULL,
    hash text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);

CREATE TABLE deliveries (
    id uuid NOT NULL,
    app_name text NOT NULL,
    session_id uuid NOT NULL,
    identity_id uuid NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    attempts bigint NOT NULL,
    next_at timestamp with time zone NOT NULL,
    leased_until timestamp with time zone NOT NULL,
    give_up_at timestamp with time zone NOT NULL,
    status bigint NOT NULL,
    note text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);

CREATE TABLE ends (
    seq bigint NOT NULL,
    session_id uuid NOT NULL,
    reason text NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE SEQUENCE ends_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE ends_seq_seq OWNED BY ends.seq;

CREATE TABLE failures (
    id uuid NOT NULL,
    identity_id uuid NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    count bigint NOT NULL,
    ip_address text NOT NULL,
    user_agent text NOT NULL
);

CREATE TABLE identities (
    id uuid NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    groups text NOT NULL,
    active boolean NOT NULL,
    state_changed_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);

CREATE TABLE migrations (
    id character varying(255) NOT NULL
);

CREATE TABLE secrets (
    name text NOT NULL,
    value bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE sessions (
    id uuid NOT NULL,
    token_hash bytea NOT NULL,
    identity_id uuid NOT NULL,
    authenticated_at timestamp with time zone NOT NULL,
    confirmed_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    idle_seconds bigint NOT NULL,
    latest_expires_at timestamp with time zone NOT NULL,
    remember boolean NOT NULL,
    method text NOT NULL,
    ip_address text NOT NULL,
    user_agent text NOT NULL,
    ended_at timestamp with time zone,
    end_reason text NOT NULL
);

CREATE TABLE signing_keys (
    id text NOT NULL,
    private_key bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    retires_at timestamp with time zone
);

ALTER TABLE ONLY ends ALTER COLUMN seq SET DEFAULT nextval('ends_seq_seq'::regclass);

INSERT INTO migrations VALUES
	('202611220001_initial');

INSERT INTO secrets VALUES
	('logout', '\x0da7aaa36afeccb359c5556a7402b7414114c6da0fa3917db85d4e9b92f08726', '2026-11-25 11:23:45.217415+00'),
	('seal', '\x1403652fbb4c3ab1ec60b711d23da46154b25008cddf794411ef41fdaa07d9e5', '2026-11-25 11:23:45.216747+00'),
	('setup', '\x71236548be7012f6f1ef8eddcf9f4f2eeb099e99cfac5c58e7f92367a61792f5', '2026-11-25 11:23:45.233513+00');

INSERT INTO signing_keys VALUES
	('K6tga77qCPJ3e-N9hpD4NwmPIJkhFCcFUwkqEAsG5j0', '\x308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420abb156c0db047c8bc721bfb0c147659655b96f72315e06e79333c85d4891f450a144034200046626d4df1ab2f6dad562a559ab0d645deefe70389b9f4ec3debf77f400d2d96a0b60c556b5370acf1e329b1fa8493f2c7e3f571d7b7fca98af1aba6876a43807', '2026-11-25 11:23:45.216231+00', NULL);

SELECT pg_catalog.setval('ends_seq_seq', 1, false);

ALTER TABLE ONLY apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (name);

ALTER TABLE ONLY attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (key);

ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (identity_id, method);

ALTER TABLE ONLY deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ends
    ADD CONSTRAINT ends_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY failures
    ADD CONSTRAINT failures_pkey PRIMARY KEY (id);

ALTER TABLE ONLY identities
    ADD CONSTRAINT identities_pkey PRIMARY KEY (id);

ALTER TABLE ONLY migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (name);

ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (id);

CREATE INDEX idx_attempts_forget_at ON attempts USING btree (forget_at);

CREATE INDEX idx_deliveries_created_at ON deliveries USING btree (created_at);

CREATE INDEX idx_deliveries_pending ON deliveries USING btree (app_name, next_at) WHERE (state = 'pending'::text);

CREATE INDEX idx_deliveries_session_id ON deliveries USING btree (session_id);

CREATE INDEX idx_ends_at ON ends USING btree (at);

CREATE INDEX idx_failures_last_at ON failures USING btree (last_at);

CREATE INDEX idx_failures_person ON failures USING btree (identity_id, last_at);

CREATE UNIQUE INDEX idx_identities_email ON identities USING btree (email);

CREATE INDEX idx_sessions_expires_at ON sessions USING btree (expires_at);

CREATE INDEX idx_sessions_person ON sessions USING btree (identity_id, authenticated_at);

CREATE UNIQUE INDEX idx_sessions_token_hash ON sessions USING btree (token_hash);

CREATE INDEX idx_sessions_unended ON sessions USING btree (expires_at) WHERE (ended_at IS NULL);

ALTER TABLE ONLY credentials
    ADD CONSTRAINT fk_credentials_identity FOREIGN KEY (identity_id) REFERENCES identities(id) ON DELETE CASCADE;

ALTER TABLE ONLY deliveries
    ADD CONSTRAINT fk_deliveries_app FOREIGN KEY (app_name) REFERENCES apps(name) ON DELETE CASCADE;

ALTER TABLE ONLY failures
    ADD CONSTRAINT fk_failures_identity FOREIGN KEY (identity_id) REFERENCES identities(id) ON DELETE CASCADE;

ALTER TABLE ONLY sessions
    ADD CONSTRAINT fk_sessions_identity FOREIGN KEY (identity_id) REFERENCES identities(id) ON DELETE CASCADE;
