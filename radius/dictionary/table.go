package dictionary

// Vendors, by their number at IANA.
const (
	cisco     = 9
	citrix    = 66 // NetScaler too: which vendor and number it reads is set there
	microsoft = 311
	juniper   = 2636
	ciscoASA  = 3076 // once Altiga
	f5        = 3375
	fortinet  = 12356
	mikrotik  = 14988
	paloAlto  = 25461
)

// table is the dictionary. Names, numbers and the names of values are those of
// FreeRADIUS 3.2's dictionaries, which is what the gear's manuals use.
func table() []attribute { //nolint:funlen // a table: one line each
	return []attribute{
		// RFC 2865, and where said another.
		{"Service-Type", 0, 6, integer, []named{
			{"Login-User", 1},
			{"Framed-User", 2},
			{"Callback-Login-User", 3},
			{"Callback-Framed-User", 4},
			{"Outbound-User", 5},
			{"Administrative-User", 6},
			{"NAS-Prompt-User", 7},
			{"Callback-NAS-Prompt", 9},
			{"Callback-Administrative", 11},
		}},
		{"Framed-Protocol", 0, 7, integer, []named{{"PPP", 1}, {"SLIP", 2}}},
		{"Framed-IP-Address", 0, 8, address, nil},
		{"Framed-IP-Netmask", 0, 9, address, nil},
		{"Filter-Id", 0, 11, text, nil},
		{"Framed-MTU", 0, 12, integer, nil},
		{"Reply-Message", 0, 18, text, nil},
		{"Framed-Route", 0, 22, text, nil},
		{"Class", 0, 25, text, nil},
		{"Session-Timeout", 0, 27, integer, nil},
		{"Idle-Timeout", 0, 28, integer, nil},
		{"Termination-Action", 0, 29, integer, []named{{"Default", 0}, {"RADIUS-Request", 1}}},
		{"Port-Limit", 0, 62, integer, nil},
		// RFC 2868, VLAN by RFC 3580 §3.31. Without a tag: §3.6 has one only if
		// the first octet is less than 0x20, which no text's is.
		{"Tunnel-Type", 0, 64, integer24, []named{{"PPTP", 1}, {"L2TP", 3}, {"AH", 6}, {"ESP", 9}, {"GRE", 10}, {"VLAN", 13}}},
		{"Tunnel-Medium-Type", 0, 65, integer24, []named{{"IPv4", 1}, {"IPv6", 2}, {"IEEE-802", 6}}},
		{"Tunnel-Private-Group-Id", 0, 81, text, nil},
		// RFC 2869; IPv6 by RFC 3162, RFC 4818 and RFC 6911.
		{"Acct-Interim-Interval", 0, 85, integer, nil},
		{"Framed-Pool", 0, 88, text, nil},
		{"Framed-IPv6-Prefix", 0, 97, prefix6, nil},
		{"Framed-IPv6-Route", 0, 99, text, nil},
		{"Framed-IPv6-Pool", 0, 100, text, nil},
		{"Delegated-IPv6-Prefix", 0, 123, prefix6, nil},
		{"Framed-IPv6-Address", 0, 168, address6, nil},
		{"DNS-Server-IPv6-Address", 0, 169, address6, nil},
		{"Delegated-IPv6-Prefix-Pool", 0, 171, text, nil},
		{"Stateful-IPv6-Address-Pool", 0, 172, text, nil},

		{"Cisco-AVPair", cisco, 1, text, nil},
		{"Cisco-In-ACL", cisco, 57, text, nil},
		{"Cisco-Out-ACL", cisco, 58, text, nil},
		{"ASA-Simultaneous-Logins", ciscoASA, 2, integer, nil},
		{"ASA-Banner1", ciscoASA, 15, text, nil},
		{"ASA-Group-Policy", ciscoASA, 25, text, nil},
		{"ASA-Tunnel-Group-Lock", ciscoASA, 85, text, nil},
		{"ASA-Address-Pools", ciscoASA, 217, text, nil},
		{"ASA-Privilege-Level", ciscoASA, 220, integer, nil},

		{"Citrix-Group-Names", citrix, 14, text, nil},
		{"Citrix-User-Groups", citrix, 16, text, nil},

		{"MS-Primary-DNS-Server", microsoft, 28, address, nil},
		{"MS-Secondary-DNS-Server", microsoft, 29, address, nil},
		{"MS-Primary-NBNS-Server", microsoft, 30, address, nil},
		{"MS-Secondary-NBNS-Server", microsoft, 31, address, nil},

		{"Juniper-Local-User-Name", juniper, 1, text, nil},
		{"Juniper-Allow-Commands", juniper, 2, text, nil},
		{"Juniper-Deny-Commands", juniper, 3, text, nil},
		{"Juniper-Allow-Configuration", juniper, 4, text, nil},
		{"Juniper-Deny-Configuration", juniper, 5, text, nil},
		{"Juniper-User-Permissions", juniper, 10, text, nil},
		{"Juniper-Primary-Dns", juniper, 31, address, nil},
		{"Juniper-Secondary-Dns", juniper, 33, address, nil},
		{"Juniper-Ip-Pool-Name", juniper, 36, text, nil},
		{"Juniper-Firewall-filter-name", juniper, 44, text, nil},
		{"Juniper-Local-Group-Name", juniper, 46, text, nil},

		{"F5-LTM-User-Role", f5, 1, integer, []named{
			{"Administrator", 0},
			{"Resource-Admin", 20},
			{"User-Manager", 40},
			{"Auditor", 80},
			{"Manager", 100},
			{"App-Editor", 300},
			{"Advanced-Operator", 350},
			{"Operator", 400},
			{"Firewall-Manager", 450},
			{"Fraud-Protection-Manager", 480},
			{"Certificate-Manager", 500},
			{"IRule-Manager", 510},
			{"Guest", 700},
			{"Web-Application-Security-Administrator", 800},
			{"Web-Application-Security-Editor", 810},
			{"Acceleration-Policy-Editor", 850},
			{"No-Access", 900},
		}},
		{"F5-LTM-User-Role-Universal", f5, 2, integer, []named{{"Disabled", 0}, {"Enabled", 1}}},
		{"F5-LTM-User-Partition", f5, 3, text, nil},
		{"F5-LTM-User-Console", f5, 4, integer, []named{{"Disabled", 0}, {"Enabled", 1}}},
		{"F5-LTM-User-Shell", f5, 5, text, nil},
		{"F5-LTM-User-Info-1", f5, 12, text, nil},
		{"F5-LTM-User-Info-2", f5, 13, text, nil},

		{"Fortinet-Group-Name", fortinet, 1, text, nil},
		{"Fortinet-Vdom-Name", fortinet, 3, text, nil},
		{"Fortinet-Interface-Name", fortinet, 5, text, nil},
		{"Fortinet-Access-Profile", fortinet, 6, text, nil},
		{"Fortinet-Webfilter-Category-Allow", fortinet, 16, octets, nil},
		{"Fortinet-Webfilter-Category-Block", fortinet, 17, octets, nil},
		{"Fortinet-Webfilter-Category-Monitor", fortinet, 18, octets, nil},
		{"Fortinet-AppCtrl-Category-Allow", fortinet, 19, octets, nil},
		{"Fortinet-AppCtrl-Category-Block", fortinet, 20, octets, nil},

		{"Mikrotik-Group", mikrotik, 3, text, nil},
		{"Mikrotik-Rate-Limit", mikrotik, 8, text, nil},
		{"Mikrotik-Address-List", mikrotik, 19, text, nil},

		{"PaloAlto-Admin-Role", paloAlto, 1, text, nil},
		{"PaloAlto-Admin-Access-Domain", paloAlto, 2, text, nil},
		{"PaloAlto-Panorama-Admin-Role", paloAlto, 3, text, nil},
		{"PaloAlto-Panorama-Admin-Access-Domain", paloAlto, 4, text, nil},
		{"PaloAlto-User-Group", paloAlto, 5, text, nil},
		{"PaloAlto-User-Domain", paloAlto, 6, text, nil},
	}
}
