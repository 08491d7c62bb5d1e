// Harness CASE_FOLDER: what Detector.cs makes of the cases of test_bundle_languages.py.
using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.Serialization;

namespace Detector
{
    [DataContract]
    public sealed class Cases
    {
        [DataMember(Name = "pictures")] public PictureCase[] Pictures;
        [DataMember(Name = "outputs")] public OutputCase[] Outputs;
    }

    [DataContract]
    public sealed class PictureCase
    {
        [DataMember(Name = "file")] public string File;
        [DataMember(Name = "width")] public int Width;
        [DataMember(Name = "height")] public int Height;
    }

    [DataContract]
    public sealed class OutputCase
    {
        [DataMember(Name = "file")] public string File;
        [DataMember(Name = "rows")] public int Rows;
        [DataMember(Name = "source")] public int[] Source;
        [DataMember(Name = "target")] public int[] Target;
        [DataMember(Name = "nms")] public NmsEntry Nms;
    }

    public static class Harness
    {
        public static void Main(string[] words)
        {
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
            string folder = words[0];
            var cases = Files.ReadJson<Cases>(Path.Combine(folder, "cases.json"));
            foreach (var one in cases.Pictures)
            {
                Place where;
                var picture = Files.ReadPicture(Path.Combine(folder, one.File));
                var input = Steps.ToInput(Steps.Letterbox(picture, one.Width, one.Height, out where));
                var bytes = new byte[input.Length * 4];
                Buffer.BlockCopy(input, 0, bytes, 0, bytes.Length);
                File.WriteAllBytes(Path.Combine(folder, one.File + ".f32"), bytes);
            }
            foreach (var one in cases.Outputs)
            {
                var output = Files.ReadFloats(Path.Combine(folder, one.File));
                var where = Place.Fit(one.Source[0], one.Source[1], one.Target[0], one.Target[1]);
                var found = Steps.Detect(output, one.Rows, where, one.Nms.ToThresholds());
                var lines = found.Select(hit =>
                    hit.Label + " " + hit.Score.ToString("R") + " " + string.Join(" ", hit.Box.Select(value => value.ToString("R"))));
                File.WriteAllText(Path.Combine(folder, one.File + ".txt"), string.Join("\n", lines));
            }
        }
    }
}
