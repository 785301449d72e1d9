package broker

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/agogsaas/holdfast/proto"
)

// The dynamic security plugin's own words. Everything that no rule allows is
// denied, except to unsubscribe.
type (
	rulesFile struct {
		Clients []rulesClient   `json:"clients"`
		Groups  []struct{}      `json:"groups"`
		Roles   []rulesRole     `json:"roles"`
		Default map[string]bool `json:"defaultACLAccess"`
	}
	rulesClient struct {
		Username   string         `json:"username"`
		ClientID   string         `json:"clientid,omitempty"`
		Password   string         `json:"password,omitempty"`
		Salt       string         `json:"salt,omitempty"`
		Iterations int            `json:"iterations,omitempty"`
		Roles      []rulesRoleRef `json:"roles"`
	}
	rulesRoleRef struct {
		Name string `json:"rolename"`
	}
	rulesRole struct {
		Name string `json:"rolename"`
		ACLs []rule `json:"acls"`
	}
	rule struct {
		Type  string `json:"acltype"`
		Topic string `json:"topic"`
		Allow bool   `json:"allow"`
	}
)

const (
	aclPublish   = "publishClientSend"
	aclReceive   = "publishClientReceive"
	aclSubscribe = "subscribePattern"
	aclLiteral   = "subscribeLiteral"

	// The broker hashes in its only thread: passwords of the region's own are
	// random and need no stretching, and an integration's is tried rarely.
	passwordIterations = 10_000
	passwordSaltBytes  = 12
	passwordHashBytes  = 64
)

func allow(kind, topic string) rule { return rule{kind, topic, true} }

// deviceRole is what one box may do: say its own things, and hear what is meant
// for it. Its last will is held to the same rules.
func deviceRole(d Device) rulesRole {
	role := rulesRole{Name: d.ID()}
	for _, k := range proto.KindsUp {
		role.ACLs = append(role.ACLs, allow(aclPublish, proto.Topic(d.Tenant, d.Facility, k)))
	}
	for _, k := range proto.KindsDown {
		topic := proto.Topic(d.Tenant, d.Facility, k)
		role.ACLs = append(role.ACLs, allow(aclLiteral, topic), allow(aclReceive, topic))
	}
	return role
}

func deviceClient(d Device) rulesClient {
	// Without a password nobody can sign in as the box where passwords count.
	return rulesClient{Username: d.ID(), Roles: []rulesRoleRef{{d.ID()}}}
}

// rules is the whole of the plugin's file at the broker's start.
func (b *Broker) rules(devices []Device) ([]byte, error) {
	const everything = "hf/v1/#"
	f := rulesFile{
		Groups: []struct{}{},
		Default: map[string]bool{
			aclPublish: false, aclReceive: false, "subscribe": false, "unsubscribe": true,
		},
		Roles: []rulesRole{
			{accountControl, []rule{
				allow(aclPublish, controlTopic), allow(aclReceive, controlTopic+"/#"), allow(aclSubscribe, controlTopic+"/#"),
			}},
			{accountRegion, []rule{
				allow(aclPublish, everything), allow(aclReceive, everything), allow(aclSubscribe, everything),
				allow(aclReceive, "$SYS/#"), allow(aclSubscribe, "$SYS/#"),
			}},
			{accountCanary, []rule{allow(aclPublish, proto.CanariesFilter)}},
			{"integration", []rule{
				allow(aclReceive, proto.MirrorFilter), allow(aclSubscribe, proto.MirrorFilter),
			}},
		},
	}
	add := func(name, clientID, password, role string) error {
		c, err := passwordClient(name, password, role)
		c.ClientID = clientID
		f.Clients = append(f.Clients, c)
		return err
	}
	if err := add(accountControl, "", b.controlPassword, accountControl); err != nil {
		return nil, err
	}
	if err := add(accountRegion, "", b.regionPassword, accountRegion); err != nil {
		return nil, err
	}
	for _, a := range b.cfg.Integrations {
		password, err := readPassword(a.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("integration %s: %w", a.Name, err)
		}
		// A connection takes the place of another with its client id, whoever
		// makes it: with an id of its own choice it could throw a box out.
		if err := add(a.Name, a.Name, password, "integration"); err != nil {
			return nil, err
		}
	}
	// Without a password it comes in with its certificate only, as boxes do.
	f.Clients = append(f.Clients, rulesClient{Username: accountCanary, Roles: []rulesRoleRef{{accountCanary}}})
	for _, d := range devices {
		f.Clients = append(f.Clients, deviceClient(d))
		f.Roles = append(f.Roles, deviceRole(d))
	}
	return json.MarshalIndent(f, "", " ")
}

func passwordClient(name, password, role string) (rulesClient, error) {
	salt := make([]byte, passwordSaltBytes)
	if _, err := rand.Read(salt); err != nil {
		return rulesClient{}, fmt.Errorf("draw salt: %w", err)
	}
	hash, err := pbkdf2.Key(sha512.New, password, salt, passwordIterations, passwordHashBytes)
	if err != nil {
		return rulesClient{}, fmt.Errorf("hash the password of %s: %w", name, err)
	}
	return rulesClient{
		Username: name, Iterations: passwordIterations, Roles: []rulesRoleRef{{role}},
		Password: base64.StdEncoding.EncodeToString(hash), Salt: base64.StdEncoding.EncodeToString(salt),
	}, nil
}
