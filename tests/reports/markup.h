// A strict reader of markup, independent of the writer: every element closed in order, every attribute quoted
// and named once, every ampersand a known entity, every id unique. HTML written so is XML as well.
#pragma once
#include <cctype>
#include <set>
#include <string>
#include <vector>

namespace deltacal::reports::test {

class Markup {
 public:
  explicit Markup(std::string text) : text_(std::move(text)) { error_ = read(); }
  const std::string& error() const { return error_; }  // "" if well formed

 private:
  std::string read() {
    size_t at = 0;
    const std::string doctype = "<!DOCTYPE html>\n";
    if (text_.rfind(doctype, 0) == 0) at = doctype.size();
    while (at < text_.size()) {
      const size_t open = text_.find('<', at);
      if (std::string e = check_text(text_.substr(at, open - at)); !e.empty()) return e;
      if (open == std::string::npos) break;
      const size_t close = end_of_tag(open);
      if (close == std::string::npos) return "a tag without end at " + near(open);
      if (std::string e = check_tag(text_.substr(open + 1, close - open - 1)); !e.empty())
        return e + " at " + near(open);
      at = close + 1;
    }
    return open_.empty() ? "" : "never closed: " + open_.back();
  }

  size_t end_of_tag(size_t at) const {
    bool quoted = false;
    for (; at < text_.size(); ++at) {
      if (text_[at] == '"') quoted = !quoted;
      if (text_[at] == '>' && !quoted) return at;
    }
    return std::string::npos;
  }

  std::string check_text(const std::string& text) const {
    if (!open_.empty() && open_.back() == "style") return "";
    return check_entities(text);
  }

  static std::string check_entities(const std::string& text) {
    for (size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
      const std::string rest = text.substr(at, 6);
      bool known = false;
      for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
        known = known || rest.rfind(entity, 0) == 0;
      if (!known) return "a bare ampersand: " + rest;
    }
    if (text.find('<') != std::string::npos || text.find('>') != std::string::npos)
      return "a bare bracket in: " + text;
    for (const char c : text)
      if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return "a control character";
    return "";
  }

  std::string check_tag(std::string tag) {
    if (tag.empty()) return "an empty tag";
    if (tag[0] == '/') {
      if (open_.empty() || open_.back() != tag.substr(1)) return "wrong end </" + tag.substr(1) + ">";
      open_.pop_back();
      return "";
    }
    const bool empty = tag.back() == '/';
    if (empty) tag.pop_back();
    size_t at = 0;
    while (at < tag.size() && std::isalnum(static_cast<unsigned char>(tag[at]))) ++at;
    if (at == 0) return "no element name";
    const std::string name = tag.substr(0, at);
    std::set<std::string> seen;
    while (at < tag.size()) {
      if (tag[at] != ' ') return "no space before an attribute of " + name;
      const size_t equals = tag.find('=', at);
      if (equals == std::string::npos || equals + 1 >= tag.size() || tag[equals + 1] != '"')
        return "an unquoted attribute";
      const size_t end = tag.find('"', equals + 2);
      if (end == std::string::npos) return "an open quote";
      const std::string attribute = tag.substr(at + 1, equals - at - 1),
                        value = tag.substr(equals + 2, end - equals - 2);
      if (!seen.insert(attribute).second) return "attribute twice: " + attribute;
      if (attribute.rfind("on", 0) == 0) return "an event handler: " + attribute;
      if (attribute == "id" && !ids_.insert(value).second) return "id twice: " + value;
      if (attribute == "d" && value.find("nan") != std::string::npos) return "a path through nan";
      if (std::string e = check_entities(value); !e.empty()) return e;
      at = end + 1;
    }
    if (!empty) open_.push_back(name);
    return "";
  }

  std::string near(size_t at) const { return text_.substr(at, 90); }

  std::string text_, error_;
  std::vector<std::string> open_;
  std::set<std::string> ids_;
};

}  // namespace deltacal::reports::test
