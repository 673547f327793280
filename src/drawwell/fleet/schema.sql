-- The fleet's database, version 1. It contains no secrets and no entropy.
--
-- The owner's role created this and may do everything. Each broker has its own role, a member of
-- the group in `fleet.role`, which may call only the functions that are granted at the end. A
-- function takes the broker's name from `session_user`, which no session can change. Each function
-- is one transaction.

CREATE SCHEMA drawwell;
SET LOCAL search_path = drawwell, pg_temp;

-- One row. `version` is the version of this schema, and `oldest` is the lowest version of a broker
-- that can use it. `owner_at` is the broker on the machine with the owner's role. Broker b has the
-- role ROLE_b. Serial numbers and changes are counted in rows, not by sequences: a sequence issues
-- a number before the standby has it, and not in the order of commits.
CREATE TABLE fleet (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL,
    version integer NOT NULL,
    oldest integer NOT NULL,
    role text NOT NULL,
    owner_at text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0,
    keys text NOT NULL DEFAULT '' CHECK (octet_length(keys) <= 150000),
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every broker, even a stolen one, can write the following. Sizes and times are limited, so the
-- other brokers can read them.
CREATE DOMAIN broker_name AS text CHECK (value ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$');
CREATE DOMAIN short_text AS text CHECK (octet_length(value) <= 300);
CREATE DOMAIN document AS text CHECK (octet_length(value) <= 65536);
CREATE DOMAIN seconds AS double precision CHECK (value BETWEEN 0 AND 1e12);

CREATE TABLE brokers (
    name broker_name PRIMARY KEY,
    addresses text[] NOT NULL DEFAULT '{}'
        CHECK (cardinality(addresses) <= 8 AND octet_length(addresses::text) <= 2400),
    certificate short_text NOT NULL DEFAULT '',
    receipt_key document NOT NULL DEFAULT '',
    version short_text NOT NULL DEFAULT '',
    report jsonb NOT NULL DEFAULT '{}' CHECK (octet_length(report::text) <= 65536),
    heartbeat timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Requests of brokers for a certificate below the fleet's root, and the answers.
CREATE TABLE certifications (
    broker broker_name PRIMARY KEY,
    csr document NOT NULL,
    certificate document NOT NULL DEFAULT ''
);

-- Amounts are in bytes and periods in microseconds; both are NULL without a limit.
CREATE TABLE consumers (
    name text COLLATE "C" PRIMARY KEY,
    rate bigint, rate_us bigint,
    quota bigint, quota_us bigint,
    classes text NOT NULL,
    created double precision NOT NULL,
    revoked_at double precision,
    stream boolean NOT NULL DEFAULT false,
    ssh_key text NOT NULL DEFAULT '',
    bare_line text NOT NULL DEFAULT ''
);
CREATE INDEX consumers_by_key ON consumers (ssh_key) WHERE ssh_key <> '';
CREATE INDEX consumers_by_line ON consumers (bare_line) WHERE bare_line <> '';

CREATE TABLE invitations (
    id text PRIMARY KEY,
    consumer text COLLATE "C" NOT NULL REFERENCES consumers,
    secret_hash bytea NOT NULL,
    created double precision NOT NULL,
    expires double precision NOT NULL,
    status text NOT NULL,
    used_at seconds,
    wrong_tries integer NOT NULL DEFAULT 0,
    used_from short_text NOT NULL DEFAULT ''
);
CREATE INDEX invitations_of ON invitations (consumer);
CREATE INDEX invitations_by_status ON invitations (status, expires);
CREATE INDEX invitations_by_end ON invitations (expires);

CREATE TABLE certificates (
    spki short_text PRIMARY KEY,
    consumer text COLLATE "C" NOT NULL REFERENCES consumers,
    serial short_text NOT NULL,
    not_after seconds NOT NULL,
    revoked_at seconds,
    earlier_end seconds NOT NULL DEFAULT 0
);
CREATE INDEX certificates_of ON certificates (consumer);

CREATE TABLE seeds (
    machine short_text PRIMARY KEY,
    count integer NOT NULL,
    written_at seconds NOT NULL,
    serial bigint,
    broker text NOT NULL DEFAULT ''
);

-- Each consumer's granted bytes in the period that ends at `ends_us`, and `arrival_us`, the
-- theoretical arrival time for its rate (GCRA, ITU-T I.371). Times are microseconds since 1970.
-- `taken` has the bytes that each broker leased in that period and did not return.
CREATE TABLE lease (
    consumer text COLLATE "C" PRIMARY KEY,
    ends_us bigint NOT NULL DEFAULT 0,
    period_us bigint NOT NULL DEFAULT 0,
    granted bigint NOT NULL DEFAULT 0,
    arrival_us bigint NOT NULL DEFAULT 0,
    taken jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

CREATE TABLE change (
    number bigint PRIMARY KEY,
    consumer text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- ---- inside -----------------------------------------------------------------------------------

-- Return the calling broker's name; NULL for another role.
CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT substr(session_user, length(role) + 2) FROM fleet
    WHERE starts_with(session_user, role || '_') AND pg_has_role(session_user, role, 'MEMBER')
$$;

CREATE FUNCTION role_of(which text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT role || '_' || which FROM fleet $$;

-- Record a change to a consumer, numbered in the order of commits, and wake the brokers.
CREATE FUNCTION note_change(changed text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE next bigint;
BEGIN
    UPDATE fleet SET changes = changes + 1 RETURNING changes INTO next;
    INSERT INTO change (number, consumer) VALUES (next, changed);
    DELETE FROM change WHERE number <= next - 100000;
    PERFORM pg_notify('drawwell', next::text);
END $$;

CREATE FUNCTION put_row(row_ consumers) RETURNS void LANGUAGE sql AS $$
    INSERT INTO consumers SELECT (row_).*
    ON CONFLICT (name) DO UPDATE SET rate = excluded.rate, rate_us = excluded.rate_us,
        quota = excluded.quota, quota_us = excluded.quota_us, classes = excluded.classes,
        revoked_at = excluded.revoked_at, stream = excluded.stream,
        ssh_key = excluded.ssh_key, bare_line = excluded.bare_line
$$;

CREATE FUNCTION revoke_certificates(whose text, now double precision, kept text)
RETURNS void LANGUAGE sql AS $$
    UPDATE certificates SET revoked_at = now
    WHERE consumer = whose AND revoked_at IS NULL AND spki <> kept
$$;

-- ---- for the owner ----------------------------------------------------------------------------

CREATE FUNCTION put_consumer(row_ jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_row(jsonb_populate_record(NULL::consumers, row_));
    PERFORM note_change(row_ ->> 'name');
END $$;

CREATE FUNCTION invite(row_ jsonb, id text, secret_hash bytea, made double precision,
                       expires double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM put_row(jsonb_populate_record(NULL::consumers, row_));
    UPDATE invitations SET status = 'void' WHERE consumer = row_ ->> 'name' AND status = 'pending';
    INSERT INTO invitations VALUES (id, row_ ->> 'name', secret_hash, made, expires, 'pending');
    PERFORM note_change(row_ ->> 'name');
END $$;

CREATE FUNCTION revoke(whose text, now double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE consumers SET revoked_at = now, ssh_key = '', bare_line = ''
        WHERE name = whose AND revoked_at IS NULL;
    UPDATE invitations SET status = 'void' WHERE consumer = whose AND status = 'pending';
    PERFORM revoke_certificates(whose, now, '');
    PERFORM note_change(whose);
END $$;

-- Create a broker's role or change its password, given as a SCRAM verifier. Returns the role.
CREATE FUNCTION admit_broker(which text, verifier text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE own text := role_of(which); brokers_ text := (SELECT role FROM fleet);
BEGIN
    IF octet_length(own) > 63 THEN
        RAISE name_too_long USING MESSAGE = format('the role %s has more than 63 bytes', own);
    ELSIF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = own) THEN
        EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT 20 PASSWORD %L IN ROLE %I ROLE %I',
                       own, verifier, brokers_, current_user);
        RETURN own;
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', own, verifier);
    EXECUTE format('ALTER ROLE %I RESET ALL', own);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', own, current_database());
    IF NOT pg_has_role(own, brokers_, 'MEMBER') THEN EXECUTE format('GRANT %I TO %I', brokers_, own); END IF;
    RETURN own;
END $$;

-- The owner is a member of each broker's role, so it can end the broker's sessions. If a
-- session has ended by itself meanwhile, PostgreSQL gives a warning. A caller would treat this
-- warning as a commit in doubt, so it is switched off.
CREATE FUNCTION end_sessions(which text) RETURNS void LANGUAGE plpgsql SET client_min_messages = error AS $$
BEGIN
    PERFORM pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = role_of(which);
END $$;

-- Revoke a broker's functions, also in open sessions. The broker's locks cannot delay this. Returns
-- excluded, running (unless `allowed`) or unknown (unless the caller sets `known`). The caller then
-- ends the broker's sessions and calls `forget_broker`.
CREATE FUNCTION exclude_broker(which text, known boolean, allowed boolean) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE own text := role_of(which); brokers_ text := (SELECT role FROM fleet);
BEGIN
    IF EXISTS (SELECT 1 FROM pg_auth_members a, pg_roles r, pg_roles m
               WHERE r.oid = a.roleid AND m.oid = a.member AND r.rolname = brokers_ AND m.rolname = own) THEN
        IF NOT allowed AND EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = own) THEN
            RETURN 'running';
        END IF;
        EXECUTE format('REVOKE %I FROM %I', brokers_, own);
    ELSIF NOT known AND NOT EXISTS (SELECT 1 FROM brokers WHERE name = which) THEN RETURN 'unknown';
    END IF;
    RETURN 'excluded';
END $$;

CREATE FUNCTION forget_broker(which text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role_of(which)) THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN', role_of(which));
        PERFORM end_sessions(which);
    END IF;
    DELETE FROM certifications WHERE broker = which;
    DELETE FROM brokers WHERE name = which;
END $$;

CREATE FUNCTION certificate_requests() RETURNS TABLE (name text, request text) LANGUAGE sql STABLE AS
$$ SELECT broker, csr FROM certifications WHERE certificate = '' ORDER BY broker $$;

CREATE FUNCTION answer_request(which text, csr_ text, certificate_ text) RETURNS void LANGUAGE sql AS
$$ UPDATE certifications SET certificate = certificate_ WHERE broker = which AND csr = csr_ $$;

CREATE FUNCTION drop_request(which text, csr_ text) RETURNS void LANGUAGE sql AS
$$ DELETE FROM certifications WHERE broker = which AND csr = csr_ AND certificate = '' $$;

CREATE FUNCTION publish_keys(list text) RETURNS void LANGUAGE sql AS
$$ UPDATE fleet SET keys = list WHERE keys <> list $$;

-- ---- for brokers: the store itself --------------------------------------------------------------

-- Return the facts that a broker checks at each connection. `too_much` lists rights that a broker's
-- role must not have. `standbys` counts the servers that receive the log now.
CREATE FUNCTION about(OUT name text, OUT version integer, OUT oldest integer, OUT now_s double precision,
                      OUT standbys integer, OUT synchronous text, OUT commits text, OUT too_much text,
                      OUT owner_at text)
LANGUAGE sql STABLE AS $$
    SELECT f.name, f.version, f.oldest, extract(epoch FROM clock_timestamp()),
        (SELECT count(*) FROM pg_stat_replication r
            WHERE coalesce(r.state, '') <> 'backup'
            AND coalesce(r.application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal')),
        current_setting('synchronous_standby_names'),
        current_setting('synchronous_commit'),
        concat_ws(', ',
            CASE WHEN r.rolsuper THEN 'superuser' END,
            CASE WHEN r.rolcreaterole THEN 'create roles' END,
            CASE WHEN r.rolcreatedb THEN 'create databases' END,
            CASE WHEN has_table_privilege(session_user, 'drawwell.consumers', 'INSERT, UPDATE')
                THEN 'write to tables' END),
        f.owner_at
    FROM fleet f, pg_roles r WHERE r.rolname = session_user
$$;

-- Check the name that a broker uses for itself. Returns '', the broker's real name, or taken if an
-- earlier session still follows the changes for it. The name is free when that session ends.
CREATE FUNCTION enter(which text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN me() IS DISTINCT FROM which THEN coalesce(me(), session_user)
        WHEN EXISTS (
            SELECT 1 FROM pg_stat_activity other, pg_stat_activity own
            WHERE own.pid = pg_backend_pid() AND other.usename = session_user
            AND other.application_name LIKE 'drawwell feed %'
            AND (other.backend_start, other.pid) < (own.backend_start, own.pid)) THEN 'taken' ELSE '' END
$$;

-- Return a new epoch. There are 2^23 epochs. The row stays locked during the wait, so a stolen
-- broker needs at least nine days to use them up.
CREATE FUNCTION next_epoch() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE given bigint;
BEGIN
    UPDATE fleet SET epoch = epoch + 1 RETURNING epoch INTO given;
    PERFORM pg_sleep(0.1);
    RETURN given;
END $$;

-- Return the changes after number `after`, the last change's number, and whether any are missing.
CREATE FUNCTION changes(after bigint, OUT last bigint, OUT gap boolean, OUT consumers text[])
LANGUAGE sql STABLE AS $$
    SELECT f.changes,
        f.changes < after OR (f.changes > after AND NOT EXISTS (
            SELECT 1 FROM change WHERE number = after + 1)),
        ARRAY(SELECT consumer FROM change WHERE number > after GROUP BY consumer ORDER BY max(number))
    FROM fleet f
$$;

-- ---- for brokers: consumers ---------------------------------------------------------------------

CREATE FUNCTION find(whose text) RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('row', to_jsonb(c), 'certificates',
        (SELECT coalesce(jsonb_agg(to_jsonb(k)), '[]') FROM (
            SELECT * FROM certificates WHERE consumer = c.name
            ORDER BY revoked_at DESC NULLS FIRST LIMIT 256) k))
    FROM consumers c WHERE c.name = whose
$$;

CREATE FUNCTION owner_of(key text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT consumer FROM certificates WHERE spki = key
    UNION ALL SELECT name FROM consumers WHERE ssh_key = key AND ssh_key <> '' LIMIT 1
$$;

-- Every name that the regular expression `pattern` can match starts with `beginning`.
CREATE FUNCTION page(pattern text, beginning text, after text, most integer)
RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('row', to_jsonb(c), 'expires',
        (SELECT max(k.not_after) FROM certificates k WHERE k.consumer = c.name AND k.revoked_at IS NULL),
        'invitation', (SELECT to_jsonb(i) FROM invitations i WHERE i.consumer = c.name
                       ORDER BY i.created DESC LIMIT 1))
    FROM consumers c WHERE c.name > after AND c.name >= beginning AND c.name < beginning || E'\x7f'
        AND c.name ~ pattern ORDER BY c.name LIMIT most
$$;

CREATE FUNCTION count_consumers() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT count(*) FROM consumers WHERE revoked_at IS NULL $$;

CREATE FUNCTION bare_lines() RETURNS SETOF jsonb LANGUAGE sql STABLE AS
$$ SELECT to_jsonb(c) FROM consumers c WHERE c.bare_line <> '' ORDER BY c.name $$;

CREATE FUNCTION invitation(which text) RETURNS SETOF invitations LANGUAGE sql STABLE AS
$$ SELECT * FROM invitations WHERE id = which $$;

CREATE FUNCTION last_invitation_ends(now double precision, slack double precision)
RETURNS double precision LANGUAGE sql STABLE AS
$$ SELECT max(expires) FROM invitations WHERE expires > now AND created <= now + slack $$;

CREATE FUNCTION expire_invitations(now double precision, slack double precision)
RETURNS void LANGUAGE sql AS $$
    UPDATE invitations SET status = 'expired'
    WHERE status = 'pending' AND (expires <= now OR created > now + slack)
$$;

CREATE FUNCTION count_wrong_try(which text, most integer) RETURNS void LANGUAGE sql AS $$
    UPDATE invitations SET wrong_tries = wrong_tries + 1,
        status = CASE WHEN status = 'pending' AND wrong_tries + 1 >= most THEN 'void' ELSE status END
    WHERE id = which
$$;

CREATE FUNCTION redeem(which text, secret bytea, key text, serial_ text, ends double precision,
                       now double precision, host text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE whose text;
BEGIN
    UPDATE invitations SET status = 'used', used_at = now, used_from = host
        WHERE id = which AND status = 'pending' AND secret_hash = sha256(secret)
        RETURNING consumer INTO whose;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM revoke_certificates(whose, now, '');
    INSERT INTO certificates VALUES (key, whose, serial_, ends);
    PERFORM note_change(whose);
    RETURN true;
END $$;

CREATE FUNCTION renew(key text, whose text, serial_ text, ends double precision)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE certificates SET earlier_end = greatest(earlier_end, not_after), serial = serial_,
        not_after = ends WHERE spki = key AND consumer = whose AND revoked_at IS NULL;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM note_change(whose);
    RETURN true;
END $$;

-- Revoke a consumer's certificates except that of key `kept`; add one if `key` is not NULL. If the
-- certificate of `kept` is revoked or unknown, do nothing.
CREATE FUNCTION rekey(whose text, kept text, key text, serial_ text, ends double precision,
                      now double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM certificates WHERE spki = kept AND consumer = whose AND revoked_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    PERFORM revoke_certificates(whose, now, kept);
    IF key IS NOT NULL THEN INSERT INTO certificates VALUES (key, whose, serial_, ends); END IF;
    PERFORM note_change(whose);
END $$;

-- ---- for brokers: seeds -------------------------------------------------------------------------

CREATE FUNCTION claim_seed(which text, now double precision, again boolean)
RETURNS SETOF seeds LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seeds VALUES (which, 1, now, NULL, me()) ON CONFLICT (machine) DO NOTHING;
    IF FOUND THEN RETURN; END IF;
    IF again THEN UPDATE seeds SET count = count + 1, broker = me() WHERE machine = which;
    ELSE RETURN QUERY SELECT * FROM seeds WHERE machine = which; END IF;
END $$;

-- Record the serial number of the seed's grant, or undo the calling broker's claim if it is NULL.
CREATE FUNCTION settle_seed(which text, number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF number IS NOT NULL THEN
        UPDATE seeds SET serial = number WHERE machine = which AND broker = me();
        RETURN;
    END IF;
    -- a row with a serial number remains
    UPDATE seeds SET count = count - 1
        WHERE machine = which AND broker = me() AND (count > 1 OR serial IS NULL);
    DELETE FROM seeds WHERE machine = which AND count = 0;
END $$;

-- ---- for brokers: leases ------------------------------------------------------------------------

-- Grant each of many consumers at least `want` bytes, or none. The arguments' limits apply only to
-- a consumer that is not in the table of consumers. A grant from a total is
-- max(want, min(remaining, total) / 8); bytes that are unused at the end of the period are lost.
-- `ends_s` is the time until then. `wait_s` is the time after which a refused `want` may fit.
-- `reason` is quota, rate or revoked; '' for a grant. Rows are locked in the order of names.
CREATE FUNCTION lease(names text[], wants bigint[], rates bigint[], rate_periods bigint[],
                      quotas bigint[], quota_periods bigint[])
RETURNS TABLE (consumer text, granted bigint, remaining bigint, period bigint, ends_s double precision,
               wait_s double precision, reason text) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$  -- planning it costs more than running it
#variable_conflict use_column
DECLARE own text := me(); locked integer := -1;
BEGIN
    WHILE locked < cardinality(names) LOOP  -- a row may be dropped between the two statements
        INSERT INTO lease (consumer) SELECT a.name FROM unnest(names) AS a(name)
            WHERE NOT EXISTS (SELECT 1 FROM lease l WHERE l.consumer = a.name)
            ORDER BY a.name COLLATE "C" ON CONFLICT DO NOTHING;
        PERFORM 1 FROM lease l WHERE l.consumer = ANY (names) ORDER BY l.consumer FOR UPDATE;
        GET DIAGNOSTICS locked = ROW_COUNT;
    END LOOP;
    RETURN QUERY
    WITH asked AS (
        SELECT a.name, a.want, coalesce(c.revoked_at, 0) > 0 AS revoked,
            CASE WHEN c.name IS NULL THEN a.rate ELSE c.rate END AS rate,
            CASE WHEN c.name IS NULL THEN a.rate_us ELSE c.rate_us END AS rate_us,
            CASE WHEN c.name IS NULL THEN a.quota ELSE c.quota END AS quota,
            CASE WHEN c.name IS NULL THEN a.quota_us ELSE c.quota_us END AS quota_us
        FROM unnest(names, wants, rates, rate_periods, quotas, quota_periods)
            AS a(name, want, rate, rate_us, quota, quota_us)
        LEFT JOIN consumers c ON c.name = a.name
    ), timed AS (
        SELECT a.*, l.ends_us, l.period_us, l.granted AS spent, l.arrival_us, l.taken,
            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us
        FROM lease l JOIN asked a ON a.name = l.consumer
    ), current AS (
        SELECT t.*, t.now_us / t.quota_us AS number,
            -- a fast clock may have written the next period; a later period is an error
            least((t.ends_us - t.period_us) / t.quota_us, t.now_us / t.quota_us + 1) AS noted,
            -- an arrival later than the largest draw can cause is an error too
            least(t.arrival_us, t.now_us + greatest(1000000, ceil(65536::numeric * t.rate_us / t.rate)))
                AS due_us
        FROM timed t
    ), accounts AS (
        SELECT c.*,
            CASE WHEN c.ends_us <= c.number * c.quota_us THEN c.number
                 ELSE greatest(c.number, c.noted) END AS in_period,
            CASE WHEN c.ends_us <= c.number * c.quota_us THEN 0 ELSE c.spent END AS used,
            CASE WHEN c.ends_us > c.number * c.quota_us THEN c.taken ELSE '{}' END AS held,
            CASE WHEN c.rate IS NULL THEN 0
                 ELSE ceil(c.want::numeric * c.rate_us / c.rate)::bigint END AS want_us
        FROM current c
    ), rooms AS (
        SELECT a.*,
            CASE WHEN a.quota IS NULL THEN NULL ELSE greatest(0, a.quota - a.used) END AS rest,
            CASE WHEN a.rate IS NULL THEN NULL ELSE greatest(0, floor(
                (greatest(1000000, a.want_us) - greatest(0, a.due_us - a.now_us))::numeric
                * a.rate / a.rate_us))::bigint END AS flow
        FROM accounts a
    ), verdicts AS (
        SELECT r.*,
            CASE WHEN r.revoked THEN 'revoked' WHEN r.rest < r.want THEN 'quota'
                 WHEN r.flow < r.want THEN 'rate' ELSE '' END AS verdict,
            least(CASE WHEN r.quota IS NOT NULL THEN greatest(r.want, least(r.rest, r.quota) / 8) END,
                r.rest, r.flow) AS share
        FROM rooms r
    ), grants AS (
        SELECT v.*, CASE WHEN v.verdict = '' THEN coalesce(v.share, v.want) ELSE 0 END AS grant_
        FROM verdicts v
    ), written AS (
        UPDATE lease l SET granted = g.used + g.grant_,
            ends_us = coalesce((g.in_period + 1) * g.quota_us, 0), period_us = coalesce(g.quota_us, 0),
            taken = g.held || jsonb_build_object(own, coalesce((g.held ->> own)::bigint, 0) + g.grant_),
            arrival_us = CASE WHEN g.rate IS NULL THEN l.arrival_us ELSE greatest(g.due_us, g.now_us)
                + ceil(g.grant_::numeric * g.rate_us / g.rate)::bigint END
        FROM grants g WHERE g.name = l.consumer RETURNING g.*
    )
    SELECT w.name, w.grant_, w.rest - w.grant_, (w.in_period + 1) * w.quota_us,
        ((w.in_period + 1) * w.quota_us - w.now_us) / 1e6::double precision,
        CASE w.verdict WHEN 'quota' THEN ((w.in_period + 1) * w.quota_us - w.now_us) / 1e6::double precision
            WHEN 'rate' THEN (w.due_us - w.now_us + w.want_us - greatest(1000000, w.want_us))
                / 1e6::double precision ELSE 0 END,
        w.verdict
    FROM written w;
END $$;

-- Take back unused bytes that this broker leased from a total, in the period that ends at `ends`.
CREATE FUNCTION give_back(names text[], ends bigint[], amounts bigint[]) RETURNS void LANGUAGE sql AS $$
    WITH own AS (SELECT me() AS name), locked AS (
        SELECT l.consumer, least(b.amount, (l.taken ->> own.name)::bigint) AS amount
        FROM own, lease l JOIN unnest(names, ends, amounts) AS b(name, ends, amount)
            ON b.name = l.consumer AND b.ends = l.ends_us AND b.amount > 0
        WHERE l.taken ? own.name
        ORDER BY l.consumer FOR UPDATE OF l
    )
    UPDATE lease l SET granted = greatest(0, l.granted - b.amount),
        taken = l.taken || jsonb_build_object(own.name, (l.taken ->> own.name)::bigint - b.amount)
    FROM own, locked b WHERE b.consumer = l.consumer
$$;

-- Drop old rows. A day after its period and its arrival time, a row has no effect.
CREATE FUNCTION drop_ended_leases() RETURNS void LANGUAGE sql AS $$
    DELETE FROM lease WHERE consumer IN (
        SELECT consumer FROM lease
        WHERE greatest(ends_us, arrival_us) < (extract(epoch FROM clock_timestamp()) - 86400) * 1000000
        ORDER BY consumer LIMIT 65536 FOR UPDATE SKIP LOCKED)
$$;

-- ---- for brokers: the others ----------------------------------------------------------------------

CREATE FUNCTION beat(addresses_ text[], certificate_ text, receipt_key_ text, version_ text, report_ jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO brokers SELECT me(), addresses_, certificate_, receipt_key_, version_, report_
    ON CONFLICT (name) DO UPDATE SET addresses = excluded.addresses, certificate = excluded.certificate,
        receipt_key = excluded.receipt_key, version = excluded.version, report = excluded.report,
        heartbeat = clock_timestamp()
$$;

CREATE FUNCTION list_brokers() RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(b) || jsonb_build_object('age_s', extract(epoch FROM clock_timestamp() - b.heartbeat),
        'report', b.report::text)
    FROM (SELECT * FROM brokers ORDER BY heartbeat DESC LIMIT 256) b ORDER BY b.name
$$;

-- Return the store's state for a broker's report. The lag is NULL while nothing is written, and if
-- the owner's role may not see it (pg_monitor).
CREATE FUNCTION overview(OUT changes bigint, OUT standby_lag_s double precision) LANGUAGE sql STABLE AS $$
    SELECT f.changes, (SELECT extract(epoch FROM max(r.replay_lag))::double precision
                       FROM pg_stat_replication r)
    FROM fleet f
$$;

CREATE FUNCTION ask_certificate(csr_ text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO certifications VALUES (me(), csr_)
    ON CONFLICT (broker) DO UPDATE SET csr = excluded.csr, certificate = ''
$$;

CREATE FUNCTION own_certificate() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT certificate FROM certifications WHERE broker = me() $$;

CREATE FUNCTION fleet_keys() RETURNS text LANGUAGE sql STABLE AS $$ SELECT keys FROM fleet $$;

-- ---- who may call what ----------------------------------------------------------------------------

-- Let the members of a role call only these functions.
CREATE FUNCTION admit_role(role name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE each regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA drawwell TO %I', role);
    FOR each IN SELECT oid FROM pg_proc WHERE pronamespace = 'drawwell'::regnamespace AND proname IN (
        'about', 'enter', 'next_epoch', 'changes', 'find', 'owner_of', 'page', 'count_consumers',
        'bare_lines', 'invitation', 'last_invitation_ends', 'expire_invitations', 'count_wrong_try',
        'redeem', 'renew', 'rekey', 'claim_seed', 'settle_seed', 'lease', 'give_back', 'drop_ended_leases',
        'beat', 'list_brokers', 'overview', 'ask_certificate', 'own_certificate', 'fleet_keys')
    LOOP EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', each, role); END LOOP;
END $$;

DO $$
DECLARE each regprocedure;
BEGIN
    FOR each IN SELECT oid FROM pg_proc WHERE pronamespace = 'drawwell'::regnamespace
    LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = drawwell, pg_temp', each);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', each);
    END LOOP;
END $$;
