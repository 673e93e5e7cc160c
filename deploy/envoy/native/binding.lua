-- Holds the token that jwt_authn verified against the certificate of the connection (RFC 8705 §3), and against the scope of its route.
-- Only a request that it calls good passes the filter behind this one; where it fails, none does.

-- The first that fits: path with all that lies below it, methods (none for all), scope.
local ROUTES = {
  { path = "/payments", methods = { GET = true, HEAD = true }, scope = "payments:read" },
  { path = "/payments", scope = "payments:write" },
}

-- Parts of names by which some services take another path or method, or certificates that nobody proved.
local REFUSED = {
  "original-url", "rewrite-url", "override-url", "original-path", "forwarded-path", "path-override", "http-method", "method-override",
  "client-cert", "clientcert", "ssl-cert", "ssl-client",
}

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- Hexadecimal, as Envoy has it, as the base64url of a thumbprint.
local function thumbprint(hex)
  local out, bits, count = {}, 0, 0
  for digit in hex:gmatch("%x") do
    bits, count = bits * 16 + tonumber(digit, 16), count + 4
    if count >= 6 then
      local rest = 2 ^ (count - 6)
      local at = math.floor(bits / rest)
      out[#out + 1] = DIGITS:sub(at + 1, at + 1)
      bits, count = bits % rest, count - 6
    end
  end
  if count > 0 then
    local at = bits * 2 ^ (6 - count)
    out[#out + 1] = DIGITS:sub(at + 1, at + 1)
  end
  return table.concat(out)
end

local function route_of(method, path)
  for _, route in ipairs(ROUTES) do
    local is_below = path == route.path or path:sub(1, #route.path + 1) == route.path .. "/"
    if is_below and (route.methods == nil or route.methods[method]) then return route end
  end
end

-- A path that everybody reads alike: segments of plain characters that do not begin with a dot.
local function is_plain(path)
  if path:sub(1, 1) ~= "/" then return false end
  for segment in (path:sub(2):gsub("/$", "") .. "/"):gmatch("([^/]*)/") do
    if path ~= "/" and not segment:match("^[%w_~-][%w._~-]*$") then return false end
  end
  return true
end

-- A header that says what nobody proved, also to those who take `.` for `-`; Envoy itself refuses `_`.
local function is_refused(name)
  local plain = name:gsub("[._]", "-")
  if plain ~= name and plain:sub(1, 11) == "x-certbind-" then return true end
  for _, part in ipairs(REFUSED) do
    if plain:find(part, 1, true) then return true end
  end
  return false
end

-- In the query a token is none (RFC 6750 §2.3), and beside the header one too many (§2).
local function has_token(query)
  for parameter in query:gmatch("[^&;]+") do
    local name = parameter:match("^[^=]*"):gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end)
    if name == "access_token" then return true end
  end
  return false
end

local function judge(handle)
  local headers, stream = handle:headers(), handle:streamInfo()
  local refused = false
  -- To its end: Envoy permits no change of headers before that.
  for name in pairs(headers) do refused = refused or is_refused(name) end
  if refused then return 403 end
  local upgrade = headers:get("upgrade")
  if upgrade ~= nil and upgrade:lower() ~= "websocket" then return 403 end
  if headers:getNumValues("authorization") ~= 1 or has_token(headers:get(":path"):match("%?(.*)$") or "") then
    return 401, 'Bearer error="invalid_request"'
  end

  local verified = stream:dynamicMetadata():get("envoy.filters.http.jwt_authn") or {}
  local payload, header, connection = verified.payload, verified.header, stream:downstreamSslConnection()
  local invalid = 'Bearer error="invalid_token"'
  -- The issuer signs other things with the same keys (RFC 9068 §4).
  if payload == nil or header == nil or header.typ ~= "at+jwt" or header.crit ~= nil then return 401, invalid end
  if connection == nil or not connection:peerCertificatePresented() then return 401, invalid end
  local bound = type(payload.cnf) == "table" and payload.cnf["x5t#S256"] or nil
  if bound == nil or bound ~= thumbprint(connection:sha256PeerCertificateDigest()) then return 401, invalid end

  local path = headers:get(":path"):match("^[^?]*")
  local route = is_plain(path) and route_of(headers:get(":method"), path) or nil
  if route == nil then return 403 end
  local scope = type(payload.scope) == "string" and payload.scope or ""
  if not (" " .. scope .. " "):find(" " .. route.scope .. " ", 1, true) then
    return 403, 'Bearer error="insufficient_scope", scope="' .. route.scope .. '"'
  end
  -- In the place of whatever the client sent under these names.
  headers:replace("x-certbind-client", payload.client_id)
  headers:replace("x-certbind-scope", scope)
  headers:replace("x-certbind-sub", payload.sub)
  return 200
end

function envoy_on_request(handle)
  local status, challenge = judge(handle)
  if status == 200 then
    handle:streamInfo():dynamicMetadata():set("certbind", "verdict", "good")
    return
  end
  handle:respond({ [":status"] = tostring(status), ["www-authenticate"] = challenge }, "")
end
