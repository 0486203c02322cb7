package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/app/outbox"
	"latchkey/models"
)

// letters is a Sender of another kind than logout, whose queue is in memory: with synctest the time of a day
// passes at once.
type letters struct {
	deliver func(ctx context.Context, to string) outbox.Result

	mu       sync.Mutex
	jobs     []*letter
	broken   map[string]error // of a claim, by recipient
	attempts []time.Time
}

type letter struct {
	models.Job
	to string
}

func (l *letters) write(to string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for range n {
		l.jobs = append(l.jobs, &letter{models.Job{ID: uuid.Must(uuid.NewV4()), State: models.Pending, NextAt: now, LeasedUntil: now, GiveUpAt: now.Add(24 * time.Hour)}, to})
	}
}

func (l *letters) due(to string) (due []*letter) {
	now := time.Now()
	for _, job := range l.jobs {
		if (to == "" || job.to == to) && job.State == models.Pending && !job.NextAt.After(now) && !job.LeasedUntil.After(now) {
			due = append(due, job)
		}
	}
	return due
}

func (l *letters) in(state models.DeliveryState) (found []letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, job := range l.jobs {
		if job.State == state {
			found = append(found, *job)
		}
	}
	return found
}

func (l *letters) Name() string { return "letter" }

func (l *letters) Due(context.Context) (recipients []string, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, job := range l.due("") {
		recipients = append(recipients, job.to)
	}
	slices.Sort(recipients)
	return slices.Compact(recipients), nil
}

func (l *letters) Claim(_ context.Context, to string, limit int, lease time.Duration) (claimed []outbox.Message, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.broken[to]; err != nil {
		return nil, err
	}
	for _, job := range l.due(to)[:min(limit, len(l.due(to)))] {
		job.Attempts++
		job.LeasedUntil = time.Now().Add(lease)
		claimed = append(claimed, outbox.Message{Job: job.Job, To: slog.String("to", to), Send: func(ctx context.Context) outbox.Result {
			l.mu.Lock()
			l.attempts = append(l.attempts, time.Now())
			l.mu.Unlock()
			return l.deliver(ctx, to)
		}})
	}
	return claimed, nil
}

func (l *letters) change(j models.Job, do func(*letter)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, job := range l.jobs {
		if job.ID == j.ID && job.State == models.Pending && job.LeasedUntil.Equal(j.LeasedUntil) {
			do(job)
		}
	}
	return nil
}

func (l *letters) Settle(_ context.Context, j models.Job) error {
	return l.change(j, func(job *letter) { job.Job, job.LeasedUntil = j, time.Now() })
}

func (l *letters) Release(_ context.Context, j models.Job) error {
	return l.change(j, func(job *letter) { job.Attempts, job.LeasedUntil = j.Attempts-1, time.Now() })
}

func (l *letters) Reschedule(context.Context, time.Duration, time.Duration) (int, error) {
	return 0, nil
}

// start runs an outbox of letters; what it has logged can be read after stop.
func start(letters *letters) (_ *outbox.Outbox, log *bytes.Buffer, stop func()) {
	log = &bytes.Buffer{}
	o := outbox.New(slog.New(slog.NewTextHandler(log, nil)), time.Now, letters)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx) })
	return o, log, func() { cancel(); running.Wait() }
}

func TestMessageThatFailsIsSentAgainEverMoreRarelyForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &letters{deliver: func(context.Context, string) outbox.Result {
			return outbox.Result{Outcome: outbox.Failed, Status: 450, Note: "try later"}
		}}
		l.write("ada@example.com", 1)
		_, log, stop := start(l)

		time.Sleep(25 * time.Hour)
		stop()

		require.Len(t, l.in(models.GivenUp), 1)
		require.Equal(t, 450, l.jobs[0].Status)
		require.Equal(t, "try later", l.jobs[0].Note)
		require.Equal(t, len(l.attempts), l.jobs[0].Attempts)
		var pauses []time.Duration
		for i := range l.attempts[1:] {
			pauses = append(pauses, l.attempts[i+1].Sub(l.attempts[i]).Truncate(5*time.Second))
		}
		require.Equal(t, []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second}, pauses[:4])
		require.Equal(t, time.Hour, pauses[len(pauses)-1])
		require.Contains(t, log.String(), `level=WARN msg="letter failed" to=ada@example.com delivery=`+l.jobs[0].ID.String()+` state=pending attempts=1 note="try later"`)
		require.Contains(t, log.String(), "state=given_up")
	})
}

func TestMessageThatIsRefusedIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &letters{deliver: func(context.Context, string) outbox.Result {
			return outbox.Result{Outcome: outbox.Refused, Note: "no such mailbox"}
		}}
		l.write("ada@example.com", 1)
		o, _, stop := start(l)
		time.Sleep(time.Second)
		o.Wake()
		time.Sleep(48 * time.Hour)
		stop()

		require.Len(t, l.attempts, 1)
		require.Len(t, l.in(models.Refused), 1)
	})
}

func TestRecipientThatHangsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := 0
		l := &letters{}
		l.deliver = func(ctx context.Context, to string) outbox.Result {
			if to == "ada@example.com" {
				l.mu.Lock()
				hanging++
				l.mu.Unlock()
				<-ctx.Done()
				return outbox.Result{Outcome: outbox.Failed, Note: "interrupted"}
			}
			return outbox.Result{Outcome: outbox.Delivered}
		}
		l.write("ada@example.com", 20)
		l.write("bob@example.com", 20)
		_, log, stop := start(l)

		time.Sleep(10 * time.Second)

		require.Len(t, l.in(models.Delivered), 20, "bob's")
		l.mu.Lock()
		require.Equal(t, 8, hanging, "as many as may be under way")
		l.mu.Unlock()
		stop()
		for _, kept := range l.in(models.Pending) {
			require.Zero(t, kept.Attempts, "what was interrupted counts for no attempt")
			require.False(t, kept.LeasedUntil.After(time.Now()))
		}
		require.NotContains(t, log.String(), "letter failed")
	})
}

func TestDatabaseErrorOfOneRecipientHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &letters{broken: map[string]error{"ada@example.com": errors.New("a row is damaged")},
			deliver: func(context.Context, string) outbox.Result { return outbox.Result{Outcome: outbox.Delivered} }}
		for _, to := range []string{"ada@example.com", "bob@example.com", "eve@example.com"} {
			l.write(to, 10)
		}
		_, log, stop := start(l)
		time.Sleep(5 * time.Second)

		require.Len(t, l.in(models.Delivered), 20)

		l.mu.Lock()
		l.broken = nil
		l.mu.Unlock()
		time.Sleep(5 * time.Second)
		stop()
		require.Len(t, l.in(models.Delivered), 30)
		require.Contains(t, log.String(), `msg="sending letters failed; retrying" error="a row is damaged"`)
		require.Contains(t, log.String(), `msg="sending letters works again"`)
	})
}

func TestAttemptsAreCountedByOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &letters{deliver: func(_ context.Context, to string) outbox.Result { return outbox.Result{Outcome: outbox.Outcome(to)} }}
		l.write("delivered", 3)
		l.write("refused", 2)
		l.write("failed", 1)
		o := outbox.New(slog.New(slog.DiscardHandler), time.Now, l)
		var mu sync.Mutex
		counted := map[string]int{}
		o.OnAttempt(func(sender string, outcome outbox.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			counted[fmt.Sprintf("%s %s", sender, outcome)]++
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		o.Run(ctx)

		require.Equal(t, map[string]int{"letter delivered": 3, "letter refused": 2, "letter failed": 1}, counted)
	})
}
