CREATE TABLE alias (
    id VARCHAR(36) NOT NULL,
    entity_id VARCHAR(36) NOT NULL,
    name VARCHAR(64) NOT NULL,
    version_id VARCHAR(36),
    valid_from BIGINT NOT NULL,
    valid_to BIGINT,
    actor VARCHAR(200) NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_alias PRIMARY KEY (id)
);
CREATE INDEX ix_alias_entity_id ON alias (entity_id);
CREATE TABLE api_key (
    id VARCHAR(36) NOT NULL,
    name VARCHAR(200) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    models TEXT NOT NULL,
    verbs TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor VARCHAR(200) NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    CONSTRAINT pk_api_key PRIMARY KEY (id),
    CONSTRAINT uq_api_key_name UNIQUE (name),
    CONSTRAINT uq_api_key_digest UNIQUE (digest)
);
CREATE TABLE data_segment (
    entity_id VARCHAR(36) NOT NULL,
    digest VARCHAR(80) NOT NULL,
    version_id VARCHAR(36) NOT NULL,
    rows INTEGER NOT NULL,
    CONSTRAINT pk_data_segment PRIMARY KEY (entity_id, digest, version_id)
);
CREATE TABLE data_validation (
    id VARCHAR(36) NOT NULL,
    name VARCHAR(200) NOT NULL,
    version_id VARCHAR(36) NOT NULL,
    execution_id VARCHAR(36) NOT NULL,
    at BIGINT NOT NULL,
    accepted BOOLEAN NOT NULL,
    rows INTEGER NOT NULL,
    findings TEXT NOT NULL,
    CONSTRAINT pk_data_validation PRIMARY KEY (id)
);
CREATE INDEX ix_data_validation_name_id ON data_validation (name, id);
CREATE INDEX ix_data_validation_version_id ON data_validation (version_id);
CREATE TABLE deployment (
    model VARCHAR(200) NOT NULL,
    seq INTEGER NOT NULL,
    champion INTEGER NOT NULL,
    challenger INTEGER,
    share FLOAT NOT NULL,
    salt VARCHAR(250) NOT NULL,
    paired BOOLEAN NOT NULL,
    fault FLOAT NOT NULL,
    undo BOOLEAN NOT NULL,
    at BIGINT NOT NULL,
    actor VARCHAR(200) NOT NULL,
    reason TEXT NOT NULL,
    strategy TEXT DEFAULT '' NOT NULL,
    CONSTRAINT pk_deployment PRIMARY KEY (model, seq)
);
CREATE TABLE edge (
    src VARCHAR(36) NOT NULL,
    relation VARCHAR(16) NOT NULL,
    dst VARCHAR(36) NOT NULL,
    role VARCHAR(100) NOT NULL,
    idx INTEGER NOT NULL,
    CONSTRAINT pk_edge PRIMARY KEY (src, relation, dst, role, idx)
);
CREATE INDEX ix_edge_dst ON edge (dst);
CREATE TABLE entity (
    id VARCHAR(36) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    name VARCHAR(200) NOT NULL,
    at BIGINT NOT NULL,
    facets TEXT NOT NULL,
    CONSTRAINT pk_entity PRIMARY KEY (id),
    CONSTRAINT uq_entity_kind_name UNIQUE (kind, name)
);
CREATE TABLE event (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id VARCHAR(36) NOT NULL,
    at BIGINT NOT NULL,
    type VARCHAR(64) NOT NULL,
    subject_id VARCHAR(200) NOT NULL,
    execution_id VARCHAR(36) NOT NULL,
    actor VARCHAR(200) NOT NULL,
    body TEXT NOT NULL,
    governs BOOLEAN NOT NULL,
    digest VARCHAR(80) NOT NULL
);
CREATE INDEX ix_event_subject_id ON event (subject_id);
CREATE INDEX ix_event_type ON event (type);
CREATE TABLE execution (
    id VARCHAR(36) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    job VARCHAR(200) NOT NULL,
    parent_id VARCHAR(36),
    state VARCHAR(16) NOT NULL,
    owner VARCHAR(200) NOT NULL,
    fencing INTEGER NOT NULL,
    code_digest VARCHAR(80) NOT NULL,
    environment_digest VARCHAR(80) NOT NULL,
    parameters TEXT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    error TEXT,
    facets TEXT NOT NULL,
    CONSTRAINT pk_execution PRIMARY KEY (id)
);
CREATE INDEX ix_execution_kind_started ON execution (kind, started);
CREATE INDEX ix_execution_parent_id ON execution (parent_id);
CREATE TABLE lease (
    subject VARCHAR(200) NOT NULL,
    holder VARCHAR(36) NOT NULL,
    until BIGINT NOT NULL,
    written BIGINT NOT NULL,
    CONSTRAINT pk_lease PRIMARY KEY (subject)
);
CREATE TABLE loop_request (
    id VARCHAR(36) NOT NULL,
    model VARCHAR(200) NOT NULL,
    at BIGINT NOT NULL,
    actor VARCHAR(200) NOT NULL,
    reason TEXT NOT NULL,
    taken BOOLEAN NOT NULL,
    CONSTRAINT pk_loop_request PRIMARY KEY (id)
);
CREATE INDEX ix_loop_request_model ON loop_request (model);
CREATE TABLE loop_state (
    model VARCHAR(200) NOT NULL,
    revision INTEGER NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT pk_loop_state PRIMARY KEY (model)
);
CREATE TABLE model_annotation (
    entity_id VARCHAR(36) NOT NULL,
    seq INTEGER NOT NULL,
    name VARCHAR(100) NOT NULL,
    value TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor VARCHAR(200) NOT NULL,
    CONSTRAINT pk_model_annotation PRIMARY KEY (entity_id, seq, name)
);
CREATE TABLE monitor_alert (
    id VARCHAR(36) NOT NULL,
    model VARCHAR(200) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    state VARCHAR(8) NOT NULL,
    version INTEGER NOT NULL,
    opened BIGINT NOT NULL,
    closed BIGINT,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    ending TEXT,
    CONSTRAINT pk_monitor_alert PRIMARY KEY (id)
);
CREATE INDEX ix_monitor_alert_model_state ON monitor_alert (model, state);
CREATE TABLE monitor_cursor (
    model VARCHAR(200) NOT NULL,
    revision BIGINT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    CONSTRAINT pk_monitor_cursor PRIMARY KEY (model)
);
CREATE TABLE monitor_window (
    id VARCHAR(36) NOT NULL,
    model VARCHAR(200) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    number INTEGER NOT NULL,
    version INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    start BIGINT NOT NULL,
    "end" BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT pk_monitor_window PRIMARY KEY (id),
    CONSTRAINT uq_monitor_window_model_kind_number UNIQUE (model, kind, number)
);
CREATE TABLE outbox (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sink VARCHAR(64) NOT NULL,
    at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    sent BIGINT,
    stream VARCHAR(36) DEFAULT '' NOT NULL,
    tries INTEGER DEFAULT '0' NOT NULL,
    due BIGINT DEFAULT '0' NOT NULL,
    parked BIGINT,
    error TEXT
);
CREATE INDEX ix_outbox_sink_stream ON outbox (sink, stream, seq);
CREATE TABLE rollout (
    id VARCHAR(36) NOT NULL,
    model VARCHAR(200) NOT NULL,
    state VARCHAR(16) NOT NULL,
    champion INTEGER NOT NULL,
    candidate INTEGER NOT NULL,
    step INTEGER NOT NULL,
    traffic INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT,
    actor VARCHAR(200) NOT NULL,
    reason TEXT NOT NULL,
    config TEXT NOT NULL,
    subject TEXT NOT NULL,
    evidence TEXT NOT NULL,
    cursors TEXT NOT NULL,
    CONSTRAINT pk_rollout PRIMARY KEY (id)
);
CREATE INDEX ix_rollout_model_state ON rollout (model, state);
CREATE TABLE step_cache (
    "key" VARCHAR(64) NOT NULL,
    step VARCHAR(200) NOT NULL,
    execution_id VARCHAR(36) NOT NULL,
    outputs TEXT NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_step_cache PRIMARY KEY ("key")
);
CREATE INDEX ix_step_cache_step_at ON step_cache (step, at);
CREATE TABLE step_code (
    digest VARCHAR(64) NOT NULL,
    parts TEXT NOT NULL,
    CONSTRAINT pk_step_code PRIMARY KEY (digest)
);
CREATE TABLE step_flight (
    "key" VARCHAR(64) NOT NULL,
    execution_id VARCHAR(36) NOT NULL,
    run_id VARCHAR(36) NOT NULL,
    CONSTRAINT pk_step_flight PRIMARY KEY ("key")
);
CREATE INDEX ix_step_flight_run_id ON step_flight (run_id);
CREATE TABLE trigger_delivery (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hook VARCHAR(200) NOT NULL,
    id VARCHAR(200) NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT uq_trigger_delivery_hook_id UNIQUE (hook, id)
);
CREATE INDEX ix_trigger_delivery_hook_at ON trigger_delivery (hook, at);
CREATE TABLE trigger_fired (
    name VARCHAR(200) NOT NULL,
    epoch INTEGER NOT NULL,
    "key" VARCHAR(200) NOT NULL,
    at BIGINT NOT NULL,
    tick_id VARCHAR(36) NOT NULL,
    run_id VARCHAR(36) NOT NULL,
    place BIGINT NOT NULL,
    done BOOLEAN NOT NULL,
    CONSTRAINT pk_trigger_fired PRIMARY KEY (name, epoch, "key")
);
CREATE INDEX ix_trigger_fired_name_done ON trigger_fired (name, done);
CREATE TABLE trigger_item (
    name VARCHAR(200) NOT NULL,
    epoch INTEGER NOT NULL,
    source VARCHAR(300) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    item TEXT NOT NULL,
    stamp VARCHAR(200) NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_trigger_item PRIMARY KEY (name, epoch, source, digest)
);
CREATE TABLE trigger_state (
    name VARCHAR(200) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    revision BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    at BIGINT NOT NULL,
    declaration TEXT NOT NULL,
    memory TEXT NOT NULL,
    verdict TEXT NOT NULL,
    CONSTRAINT pk_trigger_state PRIMARY KEY (name)
);
CREATE TABLE version (
    id VARCHAR(36) NOT NULL,
    entity_id VARCHAR(36) NOT NULL,
    seq INTEGER NOT NULL,
    digest VARCHAR(80) NOT NULL,
    uri TEXT NOT NULL,
    media_type VARCHAR(100) NOT NULL,
    size BIGINT NOT NULL,
    schema TEXT,
    state VARCHAR(16) NOT NULL,
    facets TEXT NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_version PRIMARY KEY (id),
    CONSTRAINT uq_version_entity_id_seq UNIQUE (entity_id, seq)
);
CREATE INDEX ix_version_digest ON version (digest);
