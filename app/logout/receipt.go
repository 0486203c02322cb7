package logout

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"latchkey/app/route"
	"latchkey/app/web"
	"latchkey/models"
	"latchkey/views"
)

var errReceiptOver = web.Problem{Code: http.StatusForbidden}.Telling("No sessions were ended. The button works once, within five minutes " +
	"of signing out, until somebody signs in. Sign in to end other sessions on your account page.")

// SignedOutPage answers GET /auth/signed-out.
func (h *Handler) SignedOutPage(c *gin.Context) {
	if _, err := h.SignedIn(c); err != nil && !errors.Is(err, web.ErrNoSession) {
		h.Fail(c, err)
		return
	}
	switch active, err := h.ToEnd(c); {
	case err != nil:
		h.Fail(c, err)
	case len(active) == 0:
		h.showSignedOut(c, http.StatusOK, "")
	default:
		web.SeeOther(c, h.Path(route.Logout))
	}
}

// showSignedOut shows the page to somebody who is signed out, with what their receipt says.
func (h *Handler) showSignedOut(c *gin.Context, status int, problem string) {
	ctx := c.Request.Context()
	page := views.SignedOutPage{Page: h.PageData(), Problem: problem}
	receipt, _, err := h.receipt(c)
	if err == nil {
		page.Receipt, err = h.describe(ctx, receipt)
	}
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		h.Fail(c, err)
		return
	}
	h.Site.Page(c, status, views.SignedOut(page))
}

// maxReceipts is how many cookies are tried.
const maxReceipts = 8

// receipt returns the browser's receipt and its token. It returns models.ErrNotFound if there is no valid one, or if
// there are several of different people.
func (h *Handler) receipt(c *gin.Context) (newest models.Receipt, token string, err error) {
	tokens := h.Cookies(c, web.ReceiptCookie)
	for _, candidate := range tokens[:min(len(tokens), maxReceipts)] {
		receipt, err := h.store.Sessions.Receipt(c.Request.Context(), candidate)
		switch {
		case errors.Is(err, models.ErrNotFound):
		case err != nil:
			return models.Receipt{}, "", err
		case token != "" && receipt.Session.IdentityID != newest.Session.IdentityID:
			return models.Receipt{}, "", models.ErrNotFound
		case token == "" || receipt.At.After(newest.At):
			newest, token = receipt, candidate
		}
	}
	if token == "" {
		return models.Receipt{}, "", models.ErrNotFound
	}
	return newest, token, nil
}

func (h *Handler) describe(ctx context.Context, receipt models.Receipt) (*views.Receipt, error) {
	session := &receipt.Session
	v := &views.Receipt{Person: web.Person(session), Email: session.Identity.Email, Everywhere: receipt.Everywhere, Ended: receipt.Ended}
	deliveries, err := h.store.Deliveries.OfSession(ctx, session.ID)
	if err != nil {
		return nil, err
	}
	for _, d := range deliveries {
		v.Apps = append(v.Apps, views.Told{App: d.AppName, How: stateInWords(d.State)})
	}
	v.Others, err = h.store.Sessions.CountOlder(ctx, receipt)
	return v, err
}

func stateInWords(state models.DeliveryState) string {
	switch state {
	case models.Delivered:
		return "signed out"
	case models.Pending:
		return "being signed out"
	default:
		return "could not be reached"
	}
}

// EndFromReceipt answers POST /auth/signed-out/everywhere: somebody who has just signed out ends their
// other sessions too. It ends none that began after the logout.
func (h *Handler) EndFromReceipt(c *gin.Context) {
	switch session, err := h.SignedIn(c); {
	case err == nil:
		h.Fail(c, errReceiptOver.Telling("%s has since signed in on this browser. No sessions were ended; you can end them on the account page.", web.Person(session)))
		return
	case !errors.Is(err, web.ErrNoSession):
		h.Fail(c, err)
		return
	}
	if held, err := h.ToEnd(c); err != nil || len(held) > 0 {
		h.Fail(c, cmp.Or[error](err, errReceiptOver))
		return
	}
	_, token, err := h.receipt(c)
	var receipt string
	if err == nil {
		receipt, err = h.store.Sessions.EndOlder(c.Request.Context(), token)
	}
	if errors.Is(err, models.ErrNotFound) {
		h.Respond(c, errReceiptOver, func() { h.showSignedOut(c, errReceiptOver.Code, errReceiptOver.Words()) })
		return
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	h.SetCookie(c, web.ReceiptCookie, receipt, int(models.ReceiptLifetime/time.Second))
	web.SeeOther(c, h.Path(route.SignedOut))
}
