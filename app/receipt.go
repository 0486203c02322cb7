package app

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/models"
	"latchkey/views"
)

// receipt is what a browser holds for a while after a logout: it lets the signed-out page say what
// was done, and its holder end the person's other sessions. It signs nobody in.
type receipt struct {
	Session uuid.UUID `json:"s"`
	Person  uuid.UUID `json:"i"`
	At      time.Time `json:"t"`
	// Everywhere says that the other sessions were ended too, and how many. The receipt is spent.
	Everywhere bool `json:"e,omitempty"`
	Ended      int  `json:"n,omitempty"`
}

const receiptLifetime = 5 * time.Minute

var errReceiptOver = &problem{code: http.StatusForbidden, reason: "Nothing was ended by that. The button works once, for five minutes after " +
	"signing out, and until somebody signs in. To end other sessions, sign in and open the account page."}

// newReceipt returns the receipt of a session that has just been signed out.
func (a *App) newReceipt(session *models.Session) receipt {
	return receipt{Session: session.ID, Person: session.IdentityID, At: a.Now().UTC()}
}

// giveReceipt gives the browser a receipt for as long as it is good.
func (a *App) giveReceipt(c *gin.Context, r receipt) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	left := r.At.Add(receiptLifetime).Sub(a.Now())
	http.SetCookie(c.Writer, a.cookies.cookie(a.cookies.receiptName, encode64(a.seal("receipt", raw)), int(left/time.Second)))
	return nil
}

// dropReceipt makes the browser forget its receipt: somebody signs in, and it is none of theirs.
func (a *App) dropReceipt(c *gin.Context) {
	if _, err := c.Request.Cookie(a.cookies.receiptName); err == nil {
		http.SetCookie(c.Writer, a.cookies.cookie(a.cookies.receiptName, "", -1))
	}
}

// heldReceipt returns the browser's receipt and the session that it is for, or nil if there is none
// that is still good: not that of a session that something else ended, or whose person may no
// longer sign in.
func (a *App) heldReceipt(c *gin.Context) (*receipt, *models.Session, error) {
	cookie, err := c.Request.Cookie(a.cookies.receiptName)
	if err != nil {
		return nil, nil, nil
	}
	raw, err := a.unseal("receipt", decode64(cookie.Value))
	if err != nil {
		return nil, nil, nil
	}
	r := new(receipt)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, nil, err
	}
	if !lately(a.Now(), r.At, receiptLifetime) {
		return nil, nil, nil
	}
	session, err := a.store.Sessions.ByID(c.Request.Context(), r.Session)
	if err != nil && !errors.Is(err, models.ErrNotFound) {
		return nil, nil, err
	}
	if err != nil || session.IdentityID != r.Person || session.EndReason != models.EndedByLogout || !session.Identity.Active {
		return nil, nil, nil
	}
	return r, &session, nil
}

// signedOutPage answers GET /auth/signed-out.
func (a *App) signedOutPage(c *gin.Context) {
	_, err := a.signedIn(c)
	switch {
	case errors.Is(err, errNoSession):
		a.showSignedOut(c, http.StatusOK, "")
	case err != nil:
		a.fail(c, err)
	default:
		seeOther(c, pathLogout)
	}
}

// showSignedOut shows the page to who is signed out, with what the receipt knows.
func (a *App) showSignedOut(c *gin.Context, status int, trouble string) {
	page := views.SignedOutPage{Page: a.pageData(), LoginURL: pathLogin, Problem: trouble}
	r, session, err := a.heldReceipt(c)
	if err == nil && r != nil {
		page.Receipt, err = a.describeReceipt(c, r, session)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	a.page(c, status, views.SignedOut(page))
}

func (a *App) describeReceipt(c *gin.Context, r *receipt, session *models.Session) (*views.Receipt, error) {
	ctx := c.Request.Context()
	v := &views.Receipt{Person: person(session), Email: session.Identity.Email, Everywhere: r.Everywhere, Ended: r.Ended}
	deliveries, err := a.store.Deliveries.OfSession(ctx, session.ID)
	if err != nil {
		return nil, err
	}
	for _, d := range deliveries {
		v.Apps = append(v.Apps, views.Told{App: d.AppName, How: toldInWords(d.State)})
	}
	v.Others, err = a.store.Sessions.CountOlder(ctx, session.IdentityID, *session.EndedAt)
	return v, err
}

func toldInWords(state models.DeliveryState) string {
	switch state {
	case models.Delivered:
		return "told"
	case models.Pending:
		return "being told"
	default:
		return "could not be told"
	}
}

// endFromReceipt answers POST /auth/signed-out/everywhere: who has just signed out ends their other
// sessions too. It ends none that began after the logout.
func (a *App) endFromReceipt(c *gin.Context) {
	switch session, err := a.signedIn(c); {
	case err == nil:
		a.fail(c, errReceiptOver.because("%s has signed in in this browser since. Nothing was ended by that; other sessions are ended on the account page.", person(session)))
		return
	case !errors.Is(err, errNoSession):
		a.fail(c, err)
		return
	}
	r, session, err := a.heldReceipt(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	if r == nil || r.Everywhere {
		a.respond(c, errReceiptOver, func() { a.showSignedOut(c, errReceiptOver.code, errReceiptOver.reason) })
		return
	}
	r.Everywhere = true
	if r.Ended, err = a.store.Sessions.EndOlder(c.Request.Context(), session.IdentityID, *session.EndedAt); err != nil {
		a.fail(c, err)
		return
	}
	if err := a.giveReceipt(c, *r); err != nil {
		a.fail(c, err)
		return
	}
	seeOther(c, pathSignedOut)
}
