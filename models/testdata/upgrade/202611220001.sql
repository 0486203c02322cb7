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

INSERT INTO apps VALUES
	('chat', 'http://127.0.0.1:18475/logout', 'sub', '2026-11-25 11:23:45.468866+00'),
	('shop', 'http://127.0.0.1:18474/shop', 'sid', '2026-11-25 11:23:45.45623+00'),
	('wiki', 'http://127.0.0.1:18474/wiki', 'both', '2026-11-25 11:23:45.445786+00');

INSERT INTO attempts VALUES
	('\x025e729b0fbd3b55de313aa56dec9aa3e2965f9b7d725a4bbd4f0e16df0e61e7', 3, '2026-11-25 11:23:45.614499+00', '2026-11-26 11:23:45.609686+00'),
	('\x0e66b027b379dc11d0ef167480f121c944bde94ef05f8cf33dbf96443210fee7', 1, '2026-11-25 11:23:45.61646+00', '2026-11-26 11:23:45.61646+00'),
	('\x32de7f0a7abf4167ab783f153eb6e1330229211a2657585e6f015fb3d4507372', 1, '2026-11-25 11:23:45.33518+00', '2026-11-26 11:23:45.33518+00'),
	('\x76834e85cc1111d0d1dc4016034230d7829621a859fd8d5d03f9f5c13a5f3f5b', 3, '2026-11-25 11:23:45.614499+00', '2026-11-26 11:23:45.609686+00'),
	('\x7c79ee23da933e2ab77d868185e6d14c1513b1372b7ab79ebeca323c3a114e72', 1, '2026-11-25 11:23:45.61646+00', '2026-11-26 11:23:45.61646+00'),
	('\xd89e8482a6b00d82186d8440fdf3fce54c187d753fd48d6c70019a7d37c05539', 1, '2026-11-25 11:23:45.61646+00', '2026-11-26 11:23:45.61646+00');

INSERT INTO credentials VALUES
	('0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'password', '$argon2id$v=19$m=64,t=1,p=1$ZIwKdPeFGP5qd/u2ZSRkcQ$/KLj7l+zUyhcy4qpfkG2S5WzseVmPonx8God5RsFpwU', '2026-11-25 11:23:45.357046+00', '2026-11-25 11:23:45.357046+00'),
	('14b7557c-4c26-4c14-8038-0448faca8f9b', 'password', '$argon2id$v=19$m=64,t=1,p=1$llGZ/VHMywsK8Rf3CSzeoQ$+w0PW50Nzu/e3kzrtR9Tp7xTSsJMi230G/t8yrmoASk', '2026-11-25 11:23:45.384752+00', '2026-11-25 11:23:45.384752+00'),
	('32baf034-e759-4974-9784-cb774924c582', 'password', '$argon2id$v=19$m=64,t=1,p=1$M5gT/RLlAU6EOwbBWeSy+w$EL7ON3MNC12aWVOclOWIAklA9kMLEH6i+rlTvSQ0TL4', '2026-11-25 11:23:45.336809+00', '2026-11-25 11:23:45.336809+00'),
	('6da241fb-afdd-4654-985c-3d767e9c01a3', 'password', '$argon2id$v=19$m=64,t=1,p=1$T31DA2J7/En/A+VpB67Q7w$WpmsSbbd1FH/JGRUwrBnGaU2ShG+UdIG45gpi4COQuc', '2026-11-25 11:23:45.409518+00', '2026-11-25 11:23:45.409518+00'),
	('b91128b0-bf01-409e-91a6-97a76dd41903', 'password', '$argon2id$v=19$m=64,t=1,p=1$YTA2en7QtpNm5CLVQ2Ck5Q$iUuuiz1udMqzVWcIq1unwiXytCld510i3KARMmjWHO0', '2026-11-25 11:23:45.396448+00', '2026-11-25 11:23:45.599321+00'),
	('ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', 'password', '$argon2id$v=19$m=64,t=1,p=1$vDFS+ffM5YUfUsASc4EXHQ$WJVtHFd/Rq+TNCTegen+bkiJMhu2FkEtI4KjE1xZsfQ', '2026-11-25 11:23:45.422669+00', '2026-11-25 11:23:45.422669+00');

INSERT INTO deliveries VALUES
	('8d0babb8-0b0d-40f0-a0fa-f3f218ee2a98', 'chat', '32a501c4-e1cd-4bec-a8a3-1da3dd2e57dd', '32baf034-e759-4974-9784-cb774924c582', 'logout', 'pending', 4, '2026-11-25 11:25:01.672884+00', '2026-11-25 11:24:21.674831+00', '2026-11-26 11:23:45.503245+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.503245+00', '2026-11-25 11:24:21.674831+00'),
	('6deffc25-a76b-4f8d-b020-b7514f4d5d8d', 'shop', '32a501c4-e1cd-4bec-a8a3-1da3dd2e57dd', '32baf034-e759-4974-9784-cb774924c582', 'logout', 'refused', 1, '2026-11-25 11:23:50.507336+00', '2026-11-25 11:23:45.508889+00', '2026-11-26 11:23:45.503245+00', 400, '400 Bad Request', '2026-11-25 11:23:45.503245+00', '2026-11-25 11:23:45.50889+00'),
	('cd23e41b-2be5-4eb3-a385-80315e8c04b7', 'wiki', '32a501c4-e1cd-4bec-a8a3-1da3dd2e57dd', '32baf034-e759-4974-9784-cb774924c582', 'logout', 'delivered', 1, '2026-11-25 11:23:50.508644+00', '2026-11-25 11:23:45.509278+00', '2026-11-26 11:23:45.503245+00', 200, '200 OK', '2026-11-25 11:23:45.503245+00', '2026-11-25 11:23:45.509279+00'),
	('6fef2692-d56f-4d28-aab9-58b6b8338d86', 'chat', '321c64c2-8980-4a3f-a85e-ff21c96980a7', '32baf034-e759-4974-9784-cb774924c582', 'new_login', 'pending', 4, '2026-11-25 11:25:01.673144+00', '2026-11-25 11:24:21.675448+00', '2026-11-26 11:23:45.512434+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.512434+00', '2026-11-25 11:24:21.675449+00'),
	('a5000042-a14a-4c4d-95a4-548ba6c4c3e6', 'shop', '321c64c2-8980-4a3f-a85e-ff21c96980a7', '32baf034-e759-4974-9784-cb774924c582', 'new_login', 'refused', 1, '2026-11-25 11:23:50.516864+00', '2026-11-25 11:23:45.517438+00', '2026-11-26 11:23:45.512434+00', 400, '400 Bad Request', '2026-11-25 11:23:45.512434+00', '2026-11-25 11:23:45.517438+00'),
	('fc51d6ce-40d8-4649-919b-31ce7d4eaa76', 'wiki', '321c64c2-8980-4a3f-a85e-ff21c96980a7', '32baf034-e759-4974-9784-cb774924c582', 'new_login', 'delivered', 1, '2026-11-25 11:23:50.517469+00', '2026-11-25 11:23:45.517901+00', '2026-11-26 11:23:45.512434+00', 200, '200 OK', '2026-11-25 11:23:45.512434+00', '2026-11-25 11:23:45.517901+00'),
	('9fccff36-469f-42e7-9ab1-92e032eed3b5', 'chat', '8e50e67d-789d-472c-b983-7b4ffd8246eb', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', 'operator', 'pending', 4, '2026-11-25 11:25:01.672087+00', '2026-11-25 11:24:21.672156+00', '2026-11-26 11:23:45.538563+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.538563+00', '2026-11-25 11:24:21.672157+00'),
	('ffb8808a-7651-4755-880f-d9f95c1790f3', 'shop', '8e50e67d-789d-472c-b983-7b4ffd8246eb', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', 'operator', 'refused', 1, '2026-11-25 11:23:50.823699+00', '2026-11-25 11:23:45.827587+00', '2026-11-26 11:23:45.538563+00', 400, '400 Bad Request', '2026-11-25 11:23:45.538563+00', '2026-11-25 11:23:45.827588+00'),
	('7f1b2a31-a72d-48a4-ba23-c6c96b58113e', 'wiki', '8e50e67d-789d-472c-b983-7b4ffd8246eb', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', 'operator', 'delivered', 1, '2026-11-25 11:23:50.829291+00', '2026-11-25 11:23:45.831855+00', '2026-11-26 11:23:45.538563+00', 200, '200 OK', '2026-11-25 11:23:45.538563+00', '2026-11-25 11:23:45.831855+00'),
	('7fc02644-5064-4500-b703-f31dbba45b92', 'chat', '66397eb8-f639-4729-bc4e-e8930c9489e6', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'pending', 4, '2026-11-25 11:25:01.673162+00', '2026-11-25 11:24:21.675998+00', '2026-11-26 11:23:45.560462+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:24:21.675999+00'),
	('c12d9e6c-97ed-438c-88d4-0d30939ce241', 'shop', '66397eb8-f639-4729-bc4e-e8930c9489e6', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'refused', 1, '2026-11-25 11:23:50.823142+00', '2026-11-25 11:23:45.826272+00', '2026-11-26 11:23:45.560462+00', 400, '400 Bad Request', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:23:45.826273+00'),
	('57f2b121-4800-497c-92cb-5a313c035334', 'wiki', '66397eb8-f639-4729-bc4e-e8930c9489e6', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'delivered', 1, '2026-11-25 11:23:50.827253+00', '2026-11-25 11:23:45.830471+00', '2026-11-26 11:23:45.560462+00', 200, '200 OK', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:23:45.830471+00'),
	('85afdc39-669a-46ed-bd47-6abf9645a917', 'chat', '65deff8d-cff3-4453-a8d0-77c05512138d', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'pending', 4, '2026-11-25 11:25:01.673502+00', '2026-11-25 11:24:21.673872+00', '2026-11-26 11:23:45.560462+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:24:21.673872+00'),
	('7844ca8d-8053-4180-8906-03c01a20f571', 'shop', '65deff8d-cff3-4453-a8d0-77c05512138d', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'refused', 1, '2026-11-25 11:23:50.825032+00', '2026-11-25 11:23:45.828677+00', '2026-11-26 11:23:45.560462+00', 400, '400 Bad Request', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:23:45.828677+00'),
	('5596d436-4fc0-4f88-a38e-719d46f324cc', 'wiki', '65deff8d-cff3-4453-a8d0-77c05512138d', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'disabled', 'delivered', 1, '2026-11-25 11:23:50.830152+00', '2026-11-25 11:23:45.832677+00', '2026-11-26 11:23:45.560462+00', 200, '200 OK', '2026-11-25 11:23:45.560462+00', '2026-11-25 11:23:45.832678+00'),
	('641897f9-297c-4b6b-b4b2-db14ae0163cf', 'chat', '1d15df7a-a508-4f40-a8df-1c37c66ba77a', 'a3394601-d2a4-412c-ac6b-eb46d9d89a59', 'deleted', 'pending', 4, '2026-11-25 11:25:01.673577+00', '2026-11-25 11:24:21.676567+00', '2026-11-26 11:23:45.57925+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.57925+00', '2026-11-25 11:24:21.676567+00'),
	('3a8ee7a8-71da-4b92-9392-4c1547d2cd33', 'shop', '1d15df7a-a508-4f40-a8df-1c37c66ba77a', 'a3394601-d2a4-412c-ac6b-eb46d9d89a59', 'deleted', 'refused', 1, '2026-11-25 11:23:50.823716+00', '2026-11-25 11:23:45.828107+00', '2026-11-26 11:23:45.57925+00', 400, '400 Bad Request', '2026-11-25 11:23:45.57925+00', '2026-11-25 11:23:45.828107+00'),
	('ce2768d8-2218-49c6-87f6-c1bf3ee682d5', 'wiki', '1d15df7a-a508-4f40-a8df-1c37c66ba77a', 'a3394601-d2a4-412c-ac6b-eb46d9d89a59', 'deleted', 'delivered', 1, '2026-11-25 11:23:50.82791+00', '2026-11-25 11:23:45.830888+00', '2026-11-26 11:23:45.57925+00', 200, '200 OK', '2026-11-25 11:23:45.57925+00', '2026-11-25 11:23:45.830888+00'),
	('3956e501-6a26-4750-9bef-93ed75a18dfc', 'chat', '4702cef3-d7d0-4f90-9adf-90e59dd97a7a', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'pending', 4, '2026-11-25 11:25:01.673527+00', '2026-11-25 11:24:21.674339+00', '2026-11-26 11:23:45.599321+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:24:21.674339+00'),
	('1b06c489-a96c-49b2-bd96-26dfd9cb2809', 'shop', '4702cef3-d7d0-4f90-9adf-90e59dd97a7a', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'refused', 1, '2026-11-25 11:23:50.825849+00', '2026-11-25 11:23:45.829876+00', '2026-11-26 11:23:45.599321+00', 400, '400 Bad Request', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:23:45.829876+00'),
	('4ccdc442-53c9-407e-ac9f-d592feb6ba7d', 'wiki', '4702cef3-d7d0-4f90-9adf-90e59dd97a7a', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'delivered', 1, '2026-11-25 11:23:50.828563+00', '2026-11-25 11:23:45.831361+00', '2026-11-26 11:23:45.599321+00', 200, '200 OK', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:23:45.831362+00'),
	('083844b4-1ed6-45cf-8ec1-cd98dc20e84e', 'chat', '34c34c43-af03-4dd5-9b1b-2e33191cc97c', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'pending', 4, '2026-11-25 11:25:01.672413+00', '2026-11-25 11:24:21.673366+00', '2026-11-26 11:23:45.599321+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:24:21.673367+00'),
	('b8918eba-e3eb-43ea-a06e-b69b7275f0a2', 'shop', '34c34c43-af03-4dd5-9b1b-2e33191cc97c', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'refused', 1, '2026-11-25 11:23:50.825832+00', '2026-11-25 11:23:45.829269+00', '2026-11-26 11:23:45.599321+00', 400, '400 Bad Request', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:23:45.82927+00'),
	('4d39e8cd-5847-4aca-8e09-825314dfcca0', 'wiki', '34c34c43-af03-4dd5-9b1b-2e33191cc97c', 'b91128b0-bf01-409e-91a6-97a76dd41903', 'password_changed', 'delivered', 1, '2026-11-25 11:23:50.829296+00', '2026-11-25 11:23:45.832263+00', '2026-11-26 11:23:45.599321+00', 200, '200 OK', '2026-11-25 11:23:45.599321+00', '2026-11-25 11:23:45.832263+00'),
	('288b32b8-4434-435b-ac64-1330d37c82cc', 'chat', '2692ad02-d489-4bdb-8386-72a1b3a9b264', '32baf034-e759-4974-9784-cb774924c582', 'expired', 'pending', 1, '2026-11-25 11:24:54.17317+00', '2026-11-25 11:24:49.1739+00', '2026-11-26 11:24:49.169584+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:24:49.169584+00', '2026-11-25 11:24:49.1739+00'),
	('cb781735-b791-4e68-be41-0d923b8a6dc6', 'shop', '2692ad02-d489-4bdb-8386-72a1b3a9b264', '32baf034-e759-4974-9784-cb774924c582', 'expired', 'refused', 1, '2026-11-25 11:24:54.175522+00', '2026-11-25 11:24:49.175932+00', '2026-11-26 11:24:49.169584+00', 400, '400 Bad Request', '2026-11-25 11:24:49.169584+00', '2026-11-25 11:24:49.175933+00'),
	('ac22a5e9-8955-42ab-a3ea-5dacb1e14cfc', 'wiki', '2692ad02-d489-4bdb-8386-72a1b3a9b264', '32baf034-e759-4974-9784-cb774924c582', 'expired', 'delivered', 1, '2026-11-25 11:24:54.176829+00', '2026-11-25 11:24:49.176925+00', '2026-11-26 11:24:49.169584+00', 200, '200 OK', '2026-11-25 11:24:49.169584+00', '2026-11-25 11:24:49.176926+00'),
	('04173333-fb7e-4b35-bfd8-7bb06007d743', 'chat', 'dc70c3f2-05e5-4f7c-b9c2-322ff05ce0c7', '32baf034-e759-4974-9784-cb774924c582', 'ended_elsewhere', 'pending', 1, '2026-11-25 11:24:56.208121+00', '2026-11-25 11:24:51.210368+00', '2026-11-26 11:24:51.204272+00', 0, 'dial tcp 127.0.0.1:18475: connect: connection refused', '2026-11-25 11:24:51.204272+00', '2026-11-25 11:24:51.210368+00'),
	('91113e76-e2d4-4ee1-b16d-dfe57da4b792', 'shop', 'dc70c3f2-05e5-4f7c-b9c2-322ff05ce0c7', '32baf034-e759-4974-9784-cb774924c582', 'ended_elsewhere', 'refused', 1, '2026-11-25 11:24:56.210213+00', '2026-11-25 11:24:51.211674+00', '2026-11-26 11:24:51.204272+00', 400, '400 Bad Request', '2026-11-25 11:24:51.204272+00', '2026-11-25 11:24:51.211674+00'),
	('40275ffe-b7b4-4f02-90ff-1ea43990db54', 'wiki', 'dc70c3f2-05e5-4f7c-b9c2-322ff05ce0c7', '32baf034-e759-4974-9784-cb774924c582', 'ended_elsewhere', 'delivered', 1, '2026-11-25 11:24:56.212401+00', '2026-11-25 11:24:51.21341+00', '2026-11-26 11:24:51.204272+00', 200, '200 OK', '2026-11-25 11:24:51.204272+00', '2026-11-25 11:24:51.213411+00');

INSERT INTO ends VALUES
	(1, '32a501c4-e1cd-4bec-a8a3-1da3dd2e57dd', 'logout', '2026-11-25 11:23:45.503245+00'),
	(2, '321c64c2-8980-4a3f-a85e-ff21c96980a7', 'new_login', '2026-11-25 11:23:45.512434+00'),
	(3, '8e50e67d-789d-472c-b983-7b4ffd8246eb', 'operator', '2026-11-25 11:23:45.538563+00'),
	(4, '66397eb8-f639-4729-bc4e-e8930c9489e6', 'disabled', '2026-11-25 11:23:45.560462+00'),
	(5, '65deff8d-cff3-4453-a8d0-77c05512138d', 'disabled', '2026-11-25 11:23:45.560462+00'),
	(6, '1d15df7a-a508-4f40-a8df-1c37c66ba77a', 'deleted', '2026-11-25 11:23:45.57925+00'),
	(7, '4702cef3-d7d0-4f90-9adf-90e59dd97a7a', 'password_changed', '2026-11-25 11:23:45.599321+00'),
	(8, '34c34c43-af03-4dd5-9b1b-2e33191cc97c', 'password_changed', '2026-11-25 11:23:45.599321+00'),
	(9, '2692ad02-d489-4bdb-8386-72a1b3a9b264', 'expired', '2026-11-25 11:24:49.169584+00'),
	(10, 'dc70c3f2-05e5-4f7c-b9c2-322ff05ce0c7', 'ended_elsewhere', '2026-11-25 11:24:51.204272+00');

INSERT INTO failures VALUES
	('a63bf0fe-8205-4ec8-b091-a9b4c57c5444', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.610373+00', '2026-11-25 11:23:45.61506+00', 3, '192.0.2.77', 'python-requests/2.32.4');

INSERT INTO identities VALUES
	('0c4eedcb-47e1-4728-ba0a-94cb64b029c8', 'bob@example.com', '', '', false, '2026-11-25 11:23:45.560462+00', '2026-11-25 11:23:45.357046+00', '2026-11-25 11:23:45.560462+00'),
	('14b7557c-4c26-4c14-8038-0448faca8f9b', 'zoë.müller@bücher.example', '', '', true, '2026-11-25 11:23:45.384752+00', '2026-11-25 11:23:45.384752+00', '2026-11-25 11:23:45.384752+00'),
	('32baf034-e759-4974-9784-cb774924c582', 'ada@example.com', 'Ada Lovelace', 'editors,staff', true, '2026-11-25 11:23:45.336809+00', '2026-11-25 11:23:45.336809+00', '2026-11-25 11:23:45.434708+00'),
	('6da241fb-afdd-4654-985c-3d767e9c01a3', 'josé@example.com', '', '', true, '2026-11-25 11:23:45.409518+00', '2026-11-25 11:23:45.409518+00', '2026-11-25 11:23:45.409518+00'),
	('b91128b0-bf01-409e-91a6-97a76dd41903', 'josé@example.com', '', '', true, '2026-11-25 11:23:45.396448+00', '2026-11-25 11:23:45.396448+00', '2026-11-25 11:23:45.396448+00'),
	('ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', 'grace.hopper@example.com', '', '', true, '2026-11-25 11:23:45.422669+00', '2026-11-25 11:23:45.422669+00', '2026-11-25 11:23:45.422669+00');

INSERT INTO migrations VALUES
	('202611220001_initial');

INSERT INTO secrets VALUES
	('logout', '\x809aa08fcd2b11deb220b898201351005140193653de14eb164e2cd0b6d8bef1', '2026-11-25 11:23:45.29888+00'),
	('seal', '\xa48228d2d8e1b3c94f91b4ff68a95411039e084587a3cd48c7d46d6eb3de2f04', '2026-11-25 11:23:45.298353+00');

INSERT INTO sessions VALUES
	('cf007ae5-f775-4d37-994f-ab25c990b9f3', '\x1f5788f51b9b30db995dd19ed2875d9dc5cc642ada4c295256c892fcbcea37e6', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.338015+00', '2026-11-25 11:23:45.338015+00', '2026-11-25 11:23:45.338015+00', '2026-11-25 23:23:45.338015+00', 43200, '2026-11-25 23:23:45.338015+00', false, 'password', '203.0.113.5', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, ''),
	('5bd6fdb2-d1de-4581-a676-69c54d62d4ec', '\xf9afa78497414daa9f67c25e128f0234b0ef8683e8d338cd2468cbe672884ca5', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.473751+00', '2026-11-25 11:23:45.473751+00', '2026-11-25 11:23:45.473751+00', '2026-12-02 11:23:45.473751+00', 604800, '2026-12-25 11:23:45.473751+00', true, 'password', '203.0.113.5', 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1', NULL, ''),
	('95c3e157-d55c-4d12-9798-b30f5c3a6214', '\xb447a8f49007733fc2ccb24f6c54f80986cd611c22227aa4390d9234d73971ce', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.47749+00', '2026-11-25 11:23:45.47749+00', '2026-11-25 11:23:45.47749+00', '2026-12-02 11:23:45.47749+00', 604800, '2026-12-25 11:23:45.47749+00', false, 'password', '203.0.113.40', 'curl/8.14.1', NULL, ''),
	('7a297991-332d-4dca-8405-69c18b335826', '\x6713a9621cce593f6066fd5fd10c83c41a55efdf7ed3e13e521cfb50c8f6c355', '14b7557c-4c26-4c14-8038-0448faca8f9b', '2026-11-25 11:23:45.48063+00', '2026-11-25 11:23:45.48063+00', '2026-11-25 11:23:45.48063+00', '2026-12-02 11:23:45.48063+00', 604800, '2026-12-25 11:23:45.48063+00', true, 'password', '2001:db8:1:2::3', 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1', NULL, ''),
	('42332c4e-c519-4927-87e1-d677dfbf0157', '\xe607f27976be65eccfb3161121631c9a8107ff23df6fe5962e1f267f0266d7ab', '14b7557c-4c26-4c14-8038-0448faca8f9b', '2026-11-25 11:23:45.484103+00', '2026-11-25 11:23:45.484103+00', '2026-11-25 11:23:45.484103+00', '2026-12-02 11:23:45.484103+00', 604800, '2026-12-25 11:23:45.484103+00', false, 'password', '2001:db8:1:2::3', 'okhttp/5.1.0', NULL, ''),
	('fc0992df-9774-4c0f-9e98-052a2851b447', '\xf3bf582ec10de0ed1e5be0e485393a05672dea498737603fbb1fc47baa5eb56e', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', '2026-11-25 11:23:45.488426+00', '2026-11-25 11:23:45.488426+00', '2026-11-25 11:23:45.488426+00', '2026-11-25 23:23:45.488426+00', 43200, '2026-11-25 23:23:45.488426+00', false, 'password', '198.51.100.20', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, ''),
	('820cdb68-3183-44b2-980f-414fe75d6bc6', '\x77e1bfbb24851e4f3a07c3dfe8cce29a04f1ef1ff58dd572b55859d151fefafd', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', '2026-11-25 11:23:45.491402+00', '2026-11-25 11:23:45.491402+00', '2026-11-25 11:23:45.491402+00', '2026-12-02 11:23:45.491402+00', 604800, '2026-12-25 11:23:45.491402+00', false, 'password', '198.51.100.20', '', NULL, ''),
	('4702cef3-d7d0-4f90-9adf-90e59dd97a7a', '\x1d51f0ae8015d3033206fe1bfeaee95d07db586dc6260402127ce268b352af6a', 'b91128b0-bf01-409e-91a6-97a76dd41903', '2026-11-25 11:23:45.494319+00', '2026-11-25 11:23:45.494319+00', '2026-11-25 11:23:45.494319+00', '2026-11-25 11:23:45.599321+00', 43200, '2026-11-25 23:23:45.494319+00', false, 'password', '198.51.100.30', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:23:45.599321+00', 'password_changed'),
	('eb56d8a4-e747-43ba-9e53-20ba028aec8e', '\xc0ab6f6dc11cc927cc4eff2aad39fadccc70d2e005aeb0908dc717c57dd20788', '6da241fb-afdd-4654-985c-3d767e9c01a3', '2026-11-25 11:23:45.497691+00', '2026-11-25 11:23:45.497691+00', '2026-11-25 11:23:45.497691+00', '2026-12-02 11:23:45.497691+00', 604800, '2026-12-25 11:23:45.497691+00', true, 'password', '198.51.100.31', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, ''),
	('32a501c4-e1cd-4bec-a8a3-1da3dd2e57dd', '\x6a89c319efc8f6d70cf9fef61bd9ffaa4cf286e37ca18c0772ae5f412d4a7f61', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.501265+00', '2026-11-25 11:23:45.501265+00', '2026-11-25 11:23:45.501265+00', '2026-11-25 11:23:45.503245+00', 43200, '2026-11-25 23:23:45.501265+00', false, 'password', '203.0.113.5', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:23:45.503245+00', 'logout'),
	('321c64c2-8980-4a3f-a85e-ff21c96980a7', '\x6a98c97de3bb35b30260734438f1f6972f1ae07ee43727a7bef7e29078704215', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.509975+00', '2026-11-25 11:23:45.509975+00', '2026-11-25 11:23:45.509975+00', '2026-11-25 11:23:45.512434+00', 43200, '2026-11-25 23:23:45.509975+00', false, 'password', '203.0.113.6', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:23:45.512434+00', 'new_login'),
	('b83fa1e2-ba50-452c-a780-95def1b62fe3', '\xd163cf1f2dd9288c1cba366f0d44a301752003df0f792bde1b045ca139e65f3a', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.512434+00', '2026-11-25 11:23:45.512434+00', '2026-11-25 11:23:45.512434+00', '2026-11-25 23:23:45.512434+00', 43200, '2026-11-25 23:23:45.512434+00', false, 'password', '203.0.113.6', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, ''),
	('d6d3006c-488e-4099-882a-519761c77b0e', '\xf389039383f637dc025f077971dfe1ee2ca5918e1938db16436aaf42ac1c3da7', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.518727+00', '2026-11-25 11:24:51.203282+00', '2026-11-25 11:23:45.518727+00', '2026-11-25 23:23:45.518727+00', 43200, '2026-11-25 23:23:45.518727+00', false, 'password', '203.0.113.7', 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1', NULL, ''),
	('dc70c3f2-05e5-4f7c-b9c2-322ff05ce0c7', '\x1e70085dbb9b4dccef3897914aae4ad15be68883c11ba79e686352b5d4f8ef01', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:45.522572+00', '2026-11-25 11:23:45.522572+00', '2026-11-25 11:23:45.522572+00', '2026-11-25 11:24:51.204272+00', 43200, '2026-11-25 23:23:45.522572+00', false, 'password', '203.0.113.8', 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1', '2026-11-25 11:24:51.204272+00', 'ended_elsewhere'),
	('8e50e67d-789d-472c-b983-7b4ffd8246eb', '\x8e49d5e51d57faa7d9c6eea4efbc1d9a40a72cbefb4b670b8b7f15e9f4efa460', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', '2026-11-25 11:23:45.526659+00', '2026-11-25 11:23:45.526659+00', '2026-11-25 11:23:45.526659+00', '2026-11-25 11:23:45.538563+00', 604800, '2026-12-25 11:23:45.526659+00', true, 'password', '198.51.100.20', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:23:45.538563+00', 'operator'),
	('66397eb8-f639-4729-bc4e-e8930c9489e6', '\x6e2fafeb26d0359dbe10fa0cbb16835712a93ac46555b34bdb4677b3fce35048', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', '2026-11-25 11:23:45.545843+00', '2026-11-25 11:23:45.545843+00', '2026-11-25 11:23:45.545843+00', '2026-11-25 11:23:45.560462+00', 43200, '2026-11-25 23:23:45.545843+00', false, 'password', '192.0.2.9', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:23:45.560462+00', 'disabled'),
	('65deff8d-cff3-4453-a8d0-77c05512138d', '\x16f47995b1ec6658d5cc3ac3fa82ecb9ad13eb753b1b2c8b6f8254c9dd63a929', '0c4eedcb-47e1-4728-ba0a-94cb64b029c8', '2026-11-25 11:23:45.549441+00', '2026-11-25 11:23:45.549441+00', '2026-11-25 11:23:45.549441+00', '2026-11-25 11:23:45.560462+00', 604800, '2026-12-25 11:23:45.549441+00', false, 'password', '192.0.2.9', 'curl/8.14.1', '2026-11-25 11:23:45.560462+00', 'disabled'),
	('34c34c43-af03-4dd5-9b1b-2e33191cc97c', '\x8f08d5c8858f52237ce9df090a8bb0eefae2c726074cc11bf492cbb0539814da', 'b91128b0-bf01-409e-91a6-97a76dd41903', '2026-11-25 11:23:45.587486+00', '2026-11-25 11:23:45.587486+00', '2026-11-25 11:23:45.587486+00', '2026-11-25 11:23:45.599321+00', 604800, '2026-12-25 11:23:45.587486+00', false, 'password', '198.51.100.32', 'curl/8.14.1', '2026-11-25 11:23:45.599321+00', 'password_changed'),
	('f764fef8-248d-4eb3-90a5-b12207a89270', '\x58fa158a324a9cf3048b62e4307f05f74e347b3526e5780e6a5f4dbdff51b7f8', 'b91128b0-bf01-409e-91a6-97a76dd41903', '2026-11-25 11:23:45.606883+00', '2026-11-25 11:23:45.606883+00', '2026-11-25 11:23:45.606883+00', '2026-11-25 23:23:45.606883+00', 43200, '2026-11-25 23:23:45.606883+00', false, 'password', '198.51.100.32', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, ''),
	('2692ad02-d489-4bdb-8386-72a1b3a9b264', '\xbfe59b096da3e951ab06a7b21edfae45b703f6c3a60218f4cd770b87c1b27bd6', '32baf034-e759-4974-9784-cb774924c582', '2026-11-25 11:23:47.19463+00', '2026-11-25 11:23:47.19463+00', '2026-11-25 11:23:47.19463+00', '2026-11-25 11:24:47.19463+00', 60, '2026-11-25 11:24:47.19463+00', false, 'password', '203.0.113.5', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '2026-11-25 11:24:47.19463+00', 'expired'),
	('ddf1857f-58a0-42b9-9258-da44a85437b7', '\x24f36dbcd192d179843c419a5e9feb37ee30ffe379243a2b7d2c53905085a5d7', 'ed3a4ed0-befa-40b2-95be-cd6dcf4b2dcd', '2026-11-25 11:24:51.213339+00', '2026-11-25 11:24:51.213339+00', '2026-11-25 11:24:51.213339+00', '2026-11-25 11:25:51.213339+00', 60, '2026-11-25 11:25:51.213339+00', false, 'password', '198.51.100.21', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', NULL, '');

INSERT INTO signing_keys VALUES
	('mbyJJpOsst9w8aBh__YsTAV3Gc83UkYebXAbhlTY8K0', '\x308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420c1a8318a32b871efd68dc6a65f6ad7d66abb789a2d5e915bb8d84601c99faf62a14403420004affac71744c79783953a5c5126da7a27df75d172b5861888fb16d433b45e944ad3a070e6899d12621d64abe5acb62c0d54daa0343e1cc2806b86fe55d8ede3a5', '2026-11-25 11:23:47.12913+00', NULL),
	('pIdVpBk8jdZgTR5DUXsCBCPABo-PvCLkyHrZaywSenc', '\x308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b02010104208de03ce425c6d1700ffda154a92fc8b7f793bb23c7a8e921daa8823b3194d9b9a14403420004bc406d9ebbe07bd0af99e8f667ff0cb4457a6d38eda2c7d90dd3b9c86a1b6ddea43f262e1b4025604e08a163f622d91ef28c3cdb6576dd042499d6d6ef7741c2', '2026-11-25 11:23:45.297719+00', '2026-11-26 11:23:47.12913+00');

SELECT pg_catalog.setval('ends_seq_seq', 10, true);

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
