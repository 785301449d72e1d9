package api

import (
	"testing"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
)

func TestEachTableIsSentAgainByItsOwner(t *testing.T) {
	tables := []v1.Table{
		{Schema: "public", Table: "orders", Class: "fact"}, {Schema: "public", Table: "moves", Class: "event"}, {Schema: "public", Table: "customers", Class: "master"},
	}
	name := func(n string) v1.TableName { return v1.TableName{Schema: "public", Table: n} }
	for _, c := range []struct {
		name     string
		in       v1.ResyncRequest
		up, down []v1.TableName
		refused  bool
	}{
		{name: "all", up: []v1.TableName{name("orders"), name("moves")}, down: []v1.TableName{name("customers")}},
		{name: "one", in: v1.ResyncRequest{Tables: []v1.TableName{name("customers")}}, down: []v1.TableName{name("customers")}},
		{name: "up", in: v1.ResyncRequest{Direction: "up"}, up: []v1.TableName{name("orders"), name("moves")}},
		{name: "down", in: v1.ResyncRequest{Direction: "down"}, down: []v1.TableName{name("orders"), name("customers")}},
		{name: "a fact table down", in: v1.ResyncRequest{Direction: "down", Tables: []v1.TableName{name("orders")}}, down: []v1.TableName{name("orders")}},
		{name: "an event table down", in: v1.ResyncRequest{Direction: "down", Tables: []v1.TableName{name("moves")}}, refused: true},
		{name: "a master table up", in: v1.ResyncRequest{Direction: "up", Tables: []v1.TableName{name("customers")}}, refused: true},
		{name: "no such table", in: v1.ResyncRequest{Tables: []v1.TableName{name("nothing")}}, refused: true},
	} {
		got, err := plan(tables, c.in)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.refused && (len(got.Up) != len(c.up) || len(got.Down) != len(c.down)) {
			t.Errorf("%s: %+v", c.name, got)
		}
		for i, n := range c.up {
			if got.Up[i] != n {
				t.Errorf("%s: up %+v", c.name, got.Up)
			}
		}
		for i, n := range c.down {
			if got.Down[i] != n {
				t.Errorf("%s: down %+v", c.name, got.Down)
			}
		}
	}
}
