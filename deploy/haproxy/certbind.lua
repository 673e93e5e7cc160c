-- Asks certbind guard about each request: `http-request lua.certbind` in haproxy.cfg. Leaves what it said in txn.certbind_status and,
-- beside it, client, scope, sub and challenge; whatever goes wrong leaves no status, and without one nothing passes.

local SOCKET = "unix@/run/certbind-guard/guard.sock"

-- How long the guard may take, in milliseconds. It needs no network for its answer. HAProxy tries three times more before it gives up.
local DEADLINE = 500

-- Of this connection or of the body, and no part of the question.
local NOT_ASKED = {
    ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["host"] = true, ["http2-settings"] = true,
    ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true,
    ["transfer-encoding"] = true,
}

-- Everything else that the client sent, as the guard looks for what may be read in two ways; over it what HAProxy knows itself.
local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not NOT_ASKED[name] then
            local copies = {}
            for at = 0, #values do copies[at + 1] = values[at] end
            headers[name] = copies
        end
    end
    local certificate = txn.f:ssl_c_der()
    headers["x-ssl-client-der"] = certificate and certificate ~= "" and { txn.c:base64(certificate) } or nil
    headers["x-forwarded-method"] = { txn.f:method() }
    headers["x-forwarded-uri"] = { txn.f:pathq() }
    headers["host"] = { "guard" }
    -- Without it HAProxy would take off `Upgrade`, and the guard shall see to which protocol the connection would go over.
    headers["connection"] = headers["upgrade"] and { "upgrade" } or nil
    return { url = "http://guard/verify", dst = SOCKET, timeout = DEADLINE, headers = headers }
end

core.register_action("certbind", { "http-req" }, function(txn)
    local answer = core.httpclient():get(question(txn))
    local function said(variable, name)
        local values = answer.headers and answer.headers[name]
        if values then txn:set_var("txn.certbind_" .. variable, values[0] or values[1]) end
    end
    said("client", "x-certbind-client")
    said("scope", "x-certbind-scope")
    said("sub", "x-certbind-sub")
    said("challenge", "www-authenticate")
    -- Last: an error before this line leaves none.
    txn:set_var("txn.certbind_status", answer.status)
end, 0)
