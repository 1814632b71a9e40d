CREATE TABLE corpora (
    id VARCHAR(32) NOT NULL,
    name TEXT NOT NULL,
    settings JSON NOT NULL,
    summary JSON,
    build_job_id VARCHAR(32),
    created_at FLOAT NOT NULL,
    updated_at FLOAT NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE generations (
    id VARCHAR(32) NOT NULL,
    run_id VARCHAR(32) NOT NULL,
    run_name TEXT NOT NULL,
    corpus_id VARCHAR(32),
    prompt TEXT NOT NULL,
    settings JSON NOT NULL,
    state VARCHAR(16) NOT NULL,
    message TEXT NOT NULL,
    result JSON,
    stop_requested BOOLEAN NOT NULL,
    created_at FLOAT NOT NULL,
    finished_at FLOAT,
    parent_id VARCHAR(32),
    branch_index INTEGER,
    PRIMARY KEY (id)
);

CREATE INDEX ix_generations_run_id ON generations (run_id);

CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    applied_at FLOAT NOT NULL,
    PRIMARY KEY (version)
);

CREATE TABLE workers (
    host VARCHAR(255) NOT NULL,
    pid BIGINT NOT NULL,
    slots JSON NOT NULL,
    started_at FLOAT NOT NULL,
    heartbeat_at FLOAT NOT NULL,
    PRIMARY KEY (host)
);

CREATE TABLE documents (
    corpus_id VARCHAR(32) NOT NULL,
    path TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    encoding VARCHAR(32) NOT NULL,
    note TEXT,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (corpus_id, path),
    FOREIGN KEY(corpus_id) REFERENCES corpora (id) ON DELETE CASCADE
);

CREATE TABLE generation_chunks (
    generation_id VARCHAR(32) NOT NULL,
    variant VARCHAR(8) NOT NULL,
    position INTEGER NOT NULL,
    chunk JSON NOT NULL,
    PRIMARY KEY (generation_id, variant, position),
    FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE
);

CREATE TABLE runs (
    id VARCHAR(32) NOT NULL,
    name TEXT NOT NULL,
    corpus_id VARCHAR(32) NOT NULL,
    settings JSON NOT NULL,
    state VARCHAR(16) NOT NULL,
    step BIGINT NOT NULL,
    total_steps BIGINT NOT NULL,
    job_id VARCHAR(32),
    message TEXT NOT NULL,
    created_at FLOAT NOT NULL,
    updated_at FLOAT NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(corpus_id) REFERENCES corpora (id)
);

CREATE INDEX ix_runs_corpus_id ON runs (corpus_id);

CREATE TABLE checkpoints (
    run_id VARCHAR(32) NOT NULL,
    step BIGINT NOT NULL,
    val_loss_on FLOAT,
    val_loss_off FLOAT,
    bytes BIGINT NOT NULL,
    is_best BOOLEAN NOT NULL,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (run_id, step),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);

CREATE TABLE jobs (
    number INTEGER NOT NULL,
    id VARCHAR(32) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    state VARCHAR(16) NOT NULL,
    settings JSON NOT NULL,
    corpus_id VARCHAR(32),
    run_id VARCHAR(32),
    after_id VARCHAR(32),
    parent_id VARCHAR(32),
    time_limit_s FLOAT,
    stage VARCHAR(64) NOT NULL,
    done BIGINT NOT NULL,
    total BIGINT NOT NULL,
    message TEXT NOT NULL,
    error TEXT,
    attempt INTEGER NOT NULL,
    worker VARCHAR(255),
    slot VARCHAR(64),
    pid BIGINT,
    lease_token VARCHAR(32),
    lease_expires_at FLOAT,
    stop_intent VARCHAR(16),
    stop_requested_at FLOAT,
    created_at FLOAT NOT NULL,
    started_at FLOAT,
    progress_at FLOAT,
    finished_at FLOAT,
    PRIMARY KEY (number),
    UNIQUE (id),
    FOREIGN KEY(corpus_id) REFERENCES corpora (id) ON DELETE SET NULL,
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE SET NULL,
    FOREIGN KEY(after_id) REFERENCES jobs (id),
    FOREIGN KEY(parent_id) REFERENCES jobs (id),
    UNIQUE (lease_token)
);

CREATE INDEX jobs_by_state ON jobs (state, number);

CREATE TABLE metrics (
    run_id VARCHAR(32) NOT NULL,
    name VARCHAR(64) NOT NULL,
    step BIGINT NOT NULL,
    value FLOAT NOT NULL,
    PRIMARY KEY (run_id, name, step),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);

CREATE TABLE job_events (
    number INTEGER NOT NULL,
    job_id VARCHAR(32) NOT NULL,
    at FLOAT NOT NULL,
    from_state VARCHAR(16),
    to_state VARCHAR(16) NOT NULL,
    attempt INTEGER NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (number),
    FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_job_events_job_id ON job_events (job_id);
