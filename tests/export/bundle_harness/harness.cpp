// harness CASE_FOLDER: what detector.hpp makes of the cases of test_bundle_languages.py.
#include <cstdio>

#include "detector.hpp"
#include "files.hpp"
#include "json.hpp"

int main(int, char** words) {
  const std::string folder = std::string(words[1]) + "/";
  const json::Value cases = json::parse(files::read(folder + "cases.json"));
  for (const json::Value& one : cases["pictures"].list) {
    detector::Place where{};
    const auto picture = files::read_picture(folder + one["file"].text);
    const auto canvas = detector::letterbox(picture, int(one["width"].number), int(one["height"].number), where);
    const auto input = detector::to_input(canvas);
    std::ofstream(folder + one["file"].text + ".f32", std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), std::streamsize(input.size() * sizeof(float)));
  }
  for (const json::Value& one : cases["outputs"].list) {
    const auto output = files::read_floats(folder + one["file"].text);
    const auto &source = one["source"].list, &target = one["target"].list;
    const auto where = detector::place(int(source[0].number), int(source[1].number), int(target[0].number),
                                       int(target[1].number));
    const json::Value& nms = one["nms"];
    const std::size_t rows = std::size_t(one["rows"].number);
    const detector::Thresholds thresholds{nms["confidence"].number, nms["iou"].number,
                                          std::size_t(nms["max_detections"].number),
                                          std::size_t(nms["max_candidates"].number)};
    std::FILE* file = std::fopen((folder + one["file"].text + ".txt").c_str(), "w");
    for (const auto& found : detector::detect(output.data(), rows, output.size() / rows, where, thresholds))
      std::fprintf(file, "%d %.9g %.9g %.9g %.9g %.9g\n", found.label, found.score, found.box[0], found.box[1],
                   found.box[2], found.box[3]);
    std::fclose(file);
  }
}
