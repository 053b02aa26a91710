// SHA-256, lower-case hex (OpenSSL's libcrypto).
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace deltacal {

std::string sha256(std::span<const std::byte> bytes);
std::string sha256(std::string_view text);
std::string sha256_of_tokens(std::span<const int32_t> token_ids);  // little-endian int32, as stored
std::string sha256_of_file(const std::string& path);

}  // namespace deltacal
