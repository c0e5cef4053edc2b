package radius

import (
	"fmt"
	"unicode/utf8"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// Language is what people are asked in. The zero value is English.
type Language string

// The languages.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

const maxText = 253 // octets in an attribute's value

// message is a question of ours.
type message int

const (
	promptCode message = iota
	promptNextCode
	promptNewPIN
	promptPINAgain
	promptPINDiffers    // and a new PIN
	promptPINNotAllowed // and another PIN
	promptFirstFactor
	promptFactorAndCode // in one
	promptCodeAndFactor
)

// prompt is what a person is asked: one of ours, or what another server asks.
type prompt struct {
	message message
	// passed is what another server asks in place of message, if it isn't empty:
	// printable and at most upstream.MaxMessage octets, as package upstream has it.
	passed string
	// echo says that the answer may be seen while it is typed.
	echo bool
}

// question is the prompt in words, in UTF-8, and in the language of the
// realm, or in English where the client's charset has no Japanese.
func (s *Server) question(c *client, realm string, q prompt) string {
	if q.passed != "" {
		return q.passed
	}
	if language := s.Realms[realm].Language; language == Japanese && !c.Latin1 {
		return q.message.japanese()
	}
	return q.message.english()
}

func (m message) english() string {
	switch m {
	case promptCode:
		return "Enter your one-time password."
	case promptNextCode:
		return "Wait for the next one-time password, and enter it."
	case promptNewPIN:
		return "Choose a PIN of 4 to 12 digits, and enter it."
	case promptPINAgain:
		return "Enter the same PIN once more."
	case promptFirstFactor:
		return "Enter your password."
	case promptFactorAndCode:
		return "Enter your password and then your one-time password, with nothing in between."
	case promptCodeAndFactor:
		return "Enter your one-time password and then your password, with nothing in between."
	case promptPINDiffers:
		return "The two PINs are not the same. Choose a PIN of 4 to 12 digits, and enter it."
	default:
		return "This PIN is too easy to guess, or has not 4 to 12 digits. Choose another one, and enter it."
	}
}

func (m message) japanese() string {
	switch m {
	case promptCode:
		return "ワンタイムパスワードを入力してください。"
	case promptNextCode:
		return "次のワンタイムパスワードが表示されるまで待ってから、入力してください。"
	case promptNewPIN:
		return "4~12桁の数字で暗証番号を決めて、入力してください。"
	case promptPINAgain:
		return "確認のため、同じ暗証番号をもう一度入力してください。"
	case promptFirstFactor:
		return "パスワードを入力してください。"
	case promptFactorAndCode:
		return "パスワードに続けて、ワンタイムパスワードを、間を空けずに入力してください。"
	case promptCodeAndFactor:
		return "ワンタイムパスワードに続けて、パスワードを、間を空けずに入力してください。"
	case promptPINDiffers:
		return "暗証番号が一致しません。4~12桁の数字で暗証番号を決めて、入力してください。"
	default:
		return "この暗証番号は、推測されやすいか、4~12桁の数字ではありません。別の暗証番号を決めて、入力してください。"
	}
}

// challenge is the reply that asks the person, who has stateHold to answer (RFC
// 2865 §4.4).
func (s *Server) challenge(r *request, at *progress, q prompt) ([]byte, error) {
	state, err := s.seal(r.client, at)
	if err != nil {
		return nil, err
	}
	var p codec.Packet
	p.Add(rfc2865.State_Type, state)
	for _, text := range replyMessages(s.question(r.client, at.who.realm, q), r.client.Latin1) {
		p.Add(rfc2865.ReplyMessage_Type, text)
	}
	echo := rfc2869.Prompt_Value_NoEcho
	if q.echo {
		echo = rfc2869.Prompt_Value_Echo
	}
	if err := rfc2869.Prompt_Add(&p, echo); err != nil { // RFC 2869 §5.10
		return nil, fmt.Errorf("%w: encoding a challenge: %w", internalError, err)
	}
	if err := rfc2865.SessionTimeout_Add(&p, rfc2865.SessionTimeout(stateHold.Seconds())); err != nil { // RFC 2865 §5.27
		return nil, fmt.Errorf("%w: encoding a challenge: %w", internalError, err)
	}
	return r.reply(codec.CodeAccessChallenge, p.Attributes)
}

// replyMessages is a text as the values of Reply-Messages, to be shown one after
// the other (RFC 2865 §5.18), none of which cuts a character in two.
func replyMessages(text string, latin1 bool) []codec.Attribute {
	if latin1 {
		text = toLatin1(text)
	}
	var values []codec.Attribute
	for len(text) > 0 {
		n := min(len(text), maxText)
		for !latin1 && n < len(text) && !utf8.RuneStart(text[n]) {
			n--
		}
		values, text = append(values, codec.Attribute(text[:n])), text[n:]
	}
	return values
}
