// Package walkeep keeps a PostgreSQL cluster's WAL safe and brings the cluster back. It is a set of programs; see
// README.md for what they do and CONTRIBUTING.md for how they are built.
//
// # Who may import whom
//
// Each line names a package of the module, a program or a test's helper, and those of the module's packages and of
// foreign modules that it may import directly. What is not listed is forbidden; a test holds the code against it.
//
//	archive-cmd             archive cli codec config durable pgdata sealed storage storage/local wal
//	restore-cmd             archive cli config durable fetched notes pgdata recovery sealed storage storage/local wal | cenkalti/backoff
//	supervisor              * supervisor/*
//	supervisor/basebackup   archive backup backup/volume cli codec notes pgdata recovery sealed storage wal supervisor/filebackup supervisor/pgserver supervisor/replication
//	supervisor/drill        archive backup cli durable host recovery storage wal supervisor/launch supervisor/pgconf supervisor/pgserver supervisor/restore
//	supervisor/filebackup   backup durable pgdata wal | zeebo/xxh3
//	supervisor/launch       archive cli host pgdata recovery wal supervisor/pgconf supervisor/pgserver
//	supervisor/pgconf       cli pgdata
//	supervisor/pgserver     cli conninfo pgdata wal | jackc/pgx
//	supervisor/metrics      wal supervisor/report | prometheus/client_golang
//	supervisor/page         cli wal supervisor/progress supervisor/report
//	supervisor/prefetch     archive cli codec durable fetched recovery storage/local storage/union wal
//	supervisor/progress     | schollz/progressbar x/term
//	supervisor/promote      archive cli codec notes pgdata recovery storage wal supervisor/pgserver supervisor/spool | x/sys
//	supervisor/receive      archive cli durable notes recovery sealed storage wal supervisor/pgserver supervisor/replication supervisor/spool | cenkalti/backoff
//	supervisor/replication  wal supervisor/pgserver | jackc/pgx
//	supervisor/replication/replicationtest  wal supervisor/replication | jackc/pgx
//	supervisor/report       archive backup cli durable notes pgdata recovery storage wal supervisor/pgserver supervisor/progress
//	supervisor/repository   archive backup cli config notes storage storage/cache storage/count storage/generation storage/listing storage/local storage/retry storage/s3 storage/sftp wal
//	supervisor/restore      account archive backup cli codec durable pgdata recovery storage wal supervisor/launch supervisor/pgconf supervisor/pgserver | x/sync x/sys zeebo/xxh3
//	supervisor/retain       archive backup cli notes recovery storage wal
//	supervisor/service      account cli | kardianos/service cenkalti/backoff robfig/cron x/sys
//	supervisor/setup        account archive cli config conninfo durable pgdata sealed storage storage/local wal supervisor/launch supervisor/pgconf supervisor/pgserver | x/sys
//	supervisor/ship         archive backup durable notes storage wal supervisor/spool
//	supervisor/spool        account archive cli codec durable host storage storage/local wal
//	supervisor/verify       archive backup codec notes recovery sealed storage wal | x/sync zeebo/xxh3
//	supervisor/walmgr       cli conninfo
//	common/account          | x/sys
//	common/archive          backup codec durable host notes sealed storage wal | x/sync x/sys zeebo/xxh3
//	common/archive/archivetest  archive codec recovery storage storage/local storage/mem wal | klauspost/compress pierrec/lz4
//	common/backup           codec sealed storage wal | zeebo/xxh3
//	common/backup/volume    backup codec sealed storage | klauspost/compress x/sync zeebo/xxh3
//	common/cli
//	common/cmdtest          *
//	common/codec            | klauspost/compress pierrec/lz4 zeebo/xxh3 x/sync
//	common/config           codec | jessevdk/go-flags
//	common/conninfo
//	common/durable          | x/sys
//	common/fetched          durable recovery wal
//	common/host             | x/sys
//	common/notes            backup codec host storage wal | zeebo/xxh3
//	common/pgdata           durable wal
//	common/pgtest           * | jackc/pgx x/sys
//	common/recovery         archive backup codec notes sealed storage wal
//	common/sealed           cli codec durable | filippo.io/age age/armor
//	common/sealed/sealedtest  sealed | filippo.io/age
//	common/storage
//	common/storage/cache    durable storage storage/listing
//	common/storage/count    storage
//	common/storage/faultproxy
//	common/storage/flaky    storage storage/mem
//	common/storage/generation  storage
//	common/storage/listing  storage
//	common/storage/local    durable storage
//	common/storage/mem      storage
//	common/storage/retry    storage | cenkalti/backoff
//	common/storage/s3       cli storage | cenkalti/backoff minio/minio-go
//	common/storage/s3/s3test  storage/s3 | minio/minio-go
//	common/storage/sftp     cli storage | pkg/sftp x/crypto
//	common/storage/sftp/sftptest  cmdtest
//	common/storage/storagetest  storage storage/count
//	common/storage/union    storage storage/listing
//	common/wal
//	scripts/bench           * | jackc/pgx
//	scripts/testreport
//
// Names on the left of the bar are below common/. The two commands stay small and quick because nothing that they reach
// imports pgx, kardianos/service, a network store or the supervisor, nor what would link them to the C library.
package walkeep
