package tracing

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"
)

// Statements returns a plugin that creates spans for a database's statements.
func (t *Tracer) Statements() gorm.Plugin { return statements{t} }

type statements struct{ tracer *Tracer }

func (statements) Name() string { return "latchkey:tracing" }

// Initialize implements gorm.Plugin.
func (s statements) Initialize(db *gorm.DB) error {
	const started = "latchkey:started"
	before := func(db *gorm.DB) {
		if trace.SpanFromContext(db.Statement.Context).IsRecording() {
			db.InstanceSet(started, time.Now())
		}
	}
	after := func(db *gorm.DB) {
		if from, ok := db.InstanceGet(started); ok {
			s.tracer.Statement(db.Statement.Context, db.Name(), db.Statement.SQL.String(), from.(time.Time),
				db.Error != nil && !errors.Is(db.Error, gorm.ErrRecordNotFound))
		}
	}
	all := db.Callback()
	return errors.Join(
		all.Create().Before("gorm:create").Register(started, before), all.Create().After("gorm:create").Register("latchkey:done", after),
		all.Query().Before("gorm:query").Register(started, before), all.Query().After("gorm:query").Register("latchkey:done", after),
		all.Update().Before("gorm:update").Register(started, before), all.Update().After("gorm:update").Register("latchkey:done", after),
		all.Delete().Before("gorm:delete").Register(started, before), all.Delete().After("gorm:delete").Register("latchkey:done", after),
		all.Row().Before("gorm:row").Register(started, before), all.Row().After("gorm:row").Register("latchkey:done", after),
		all.Raw().Before("gorm:raw").Register(started, before), all.Raw().After("gorm:raw").Register("latchkey:done", after))
}

// Statement adds the span of a statement that started at from and has just ended.
func (t *Tracer) Statement(ctx context.Context, system, sql string, from time.Time, failed bool) {
	operation, table := summary(sql)
	name := strings.TrimSpace(operation + " " + table)
	if system == "postgres" {
		system = "postgresql" // as in OpenTelemetry's conventions
	}
	t.Past(ctx, name, from, time.Now(), failed, semconv.DBSystemNameKey.String(system),
		semconv.DBOperationName(operation), semconv.DBCollectionName(table))
}

var (
	firstWord  = regexp.MustCompile(`^\s*([A-Za-z]+)`)
	firstTable = regexp.MustCompile("(?i)\\b(?:FROM|INTO|UPDATE)\\s+[`\"]?([a-z_]+)")
)

// summary returns the verb and the first table of a statement, but no values.
func summary(sql string) (operation, table string) {
	if found := firstWord.FindStringSubmatch(sql); found != nil {
		operation = strings.ToUpper(found[1])
	}
	if found := firstTable.FindStringSubmatch(sql); found != nil {
		table = found[1]
	}
	return operation, table
}
